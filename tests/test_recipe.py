"""The PyTorch recipe we are compared with: it is what it says, and trains."""

import json

import numpy as np
import pytest
from absl import flags

from cxr_gan import data, given

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: pip install -e '.[bench]'"
)
from benchmarks.rivals import recipe as module  # noqa: E402, it imports torch

LABEL = np.arange(32, dtype=np.int32) % 2


@pytest.fixture
def recipe():
    torch.set_num_threads(1)
    return module.Recipe(num_classes=2, seed=0)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 64, 64, 1), np.uint8)


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


def differences(before, network):
    return [a - b for a, b in zip(before, network.parameters(), strict=True)]


def test_a_round_moves_both_players_and_the_average_by_a_five_hundredth(recipe, image):
    networks = (recipe.g, recipe.d, recipe.average)
    before = [weights(network) for network in networks]
    recipe.play(image, LABEL)
    was_g, was_d, was_average = before
    assert all(map(torch.any, differences(was_g, recipe.g)))
    assert any(map(torch.any, differences(was_d, recipe.d)))
    for was, new, now in zip(
        was_average, recipe.g.parameters(), recipe.average.parameters(), strict=True
    ):
        torch.testing.assert_close(now, was + 0.002 * (new - was))
    assert all(p.requires_grad for p in recipe.d.parameters())
    grads = [p.grad for net in (recipe.g, recipe.d) for p in net.parameters()]
    assert all(grad is None for grad in grads)


def test_images_depend_on_noise_and_class_and_are_whole_grey_levels(recipe):
    drawn = recipe.draw(np.array([0, 1]), seed=0)
    assert drawn.shape == (2, 64, 64) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, recipe.draw(np.array([0, 1]), seed=0))
    other_class = recipe.draw(np.array([1, 1]), seed=0)
    assert (drawn[0] != other_class[0]).any() and (drawn[1] == other_class[1]).all()
    assert (drawn != recipe.draw(np.array([0, 1]), seed=1)).any()


def test_no_weight_of_d_stretches_by_more_than_about_one(recipe):
    x = torch.randn(4, 1, 64, 64)
    for _ in range(30):  # one step of the power method each
        recipe.d(x)
    recipe.d.eval()
    for layer in (*recipe.d.convs, recipe.d.realness, recipe.d.pathology):
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.05)


def test_a_loss_that_is_no_number_ends_the_training(recipe, image):
    recipe.g.stem.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        recipe.play(image, LABEL)


@pytest.fixture
def dataset(monkeypatch, tmp_path):
    whole = data.load("phantom:60", 64, split_seed=0, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(module.data, "load", lambda *_, **__: whole)
    monkeypatch.setattr(module, "DRAWN", 20)


def command(*words):
    values = flags.FlagValues()
    module.define_flags(values)
    values(["recipe", "--dataset=phantom:60", *words])
    return module.main(["recipe"], values)


@pytest.mark.usefixtures("dataset")
def test_images_are_kept_on_the_way_as_evaluate_takes_them(tmp_path, capsys):
    out = tmp_path / "recipe"
    assert command(f"--out={out}", "--kimg=1.5", "--keep_kimg=1") == 0
    course = json.loads((out / "recipe.json").read_text())["course"]
    assert [point["kimg"] for point in course] == [0.992, 1.504]
    read = given.read(str(out / "002.npz"))
    assert np.bincount(read.labels(("NORMAL", "PNEUMONIA"))).tolist() == [10, 10]
    assert command(f"--out={out}") == 1
    assert "is there already; give another --out" in capsys.readouterr().err
