"""The PyTorch recipe that cxr_gan is compared with: its step, networks and command."""

import json

import numpy as np
import pytest
from absl import flags

from cxr_gan import data
from cxr_gan.evaluation import image_input

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: pip install -e '.[bench]'"
)
from benchmarks.baselines import recipe as module  # noqa: E402, it imports torch

LABEL = np.arange(32, dtype=np.int32) % 2


@pytest.fixture
def recipe():
    torch.set_num_threads(1)
    return module.Recipe(num_classes=2, seed=0)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 64, 64, 1), np.uint8)


def copy_weights(network):
    return [p.detach().clone() for p in network.parameters()]


def differences(before, network):
    return [a - b for a, b in zip(before, network.parameters(), strict=True)]


def test_step_updates_both_networks_and_the_ema(recipe, image):
    networks = (recipe.g, recipe.d, recipe.ema)
    g_before, d_before, ema_before = map(copy_weights, networks)
    recipe.train_step(image, LABEL)
    assert all(map(torch.any, differences(g_before, recipe.g)))
    assert any(map(torch.any, differences(d_before, recipe.d)))
    for before, new, after in zip(
        ema_before, recipe.g.parameters(), recipe.ema.parameters(), strict=True
    ):
        torch.testing.assert_close(after, before + 0.002 * (new - before))
    assert all(p.requires_grad for p in recipe.d.parameters())
    grads = [p.grad for net in (recipe.g, recipe.d) for p in net.parameters()]
    assert all(grad is None for grad in grads)


def test_images_depend_on_seed_and_class_and_are_uint8(recipe):
    images = recipe.generate(np.array([0, 1]), seed=0)
    assert images.shape == (2, 64, 64) and images.dtype == np.uint8
    np.testing.assert_array_equal(images, recipe.generate(np.array([0, 1]), seed=0))
    other_class = recipe.generate(np.array([1, 1]), seed=0)
    assert (images[0] != other_class[0]).any()
    assert (images[1] == other_class[1]).all()
    assert (images != recipe.generate(np.array([0, 1]), seed=1)).any()


def test_weights_of_d_have_spectral_norm_1(recipe):
    x = torch.randn(4, 1, 64, 64)
    for _ in range(30):  # each call runs one power iteration
        recipe.d(x)
    recipe.d.eval()
    for layer in (*recipe.d.convs, recipe.d.realness, recipe.d.pathology):
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.05)


def test_nan_loss_ends_the_training(recipe, image):
    recipe.g.stem.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        recipe.train_step(image, LABEL)


@pytest.fixture
def dataset(monkeypatch, tmp_path):
    phantoms = data.load("phantom:60", 64, split_seed=0, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(module.data, "load", lambda *_, **__: phantoms)
    monkeypatch.setattr(module, "NUM_IMAGES", 20)


def run_command(*arguments):
    values = flags.FlagValues()
    module.define_flags(values)
    values(["recipe", "--dataset=phantom:60", *arguments])
    return module.main(["recipe"], values)


@pytest.mark.usefixtures("dataset")
def test_command_writes_images_in_intervals_that_evaluate_reads(tmp_path, capsys):
    out = tmp_path / "recipe"
    assert run_command(f"--out={out}", "--kimg=1.5", "--keep_kimg=1") == 0
    course = json.loads((out / "recipe.json").read_text())["course"]
    assert [point["kimg"] for point in course] == [0.992, 1.504]
    images = image_input.read(str(out / "002.npz"))
    assert np.bincount(images.labels(("NORMAL", "PNEUMONIA"))).tolist() == [10, 10]
    assert run_command(f"--out={out}") == 1
    assert "already exists; give another --out" in capsys.readouterr().err
