"""benchmarks.train_baseline and its baselines: recipe and Gaussian."""

import benchmark_command
import numpy as np
import pytest

from benchmarks import train_baseline
from cxr_gan import data
from cxr_gan.evaluation import image_input

LABEL = np.arange(32, dtype=np.int32) % 2


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return data.load("phantom:60", 64, split_seed=0, cache_dir=cache)


# The command


@pytest.fixture
def command(phantoms, monkeypatch, tmp_path):
    """command(*flags): runs the command; returns the exit code."""
    monkeypatch.setattr(train_baseline.data, "load", lambda *_, **__: phantoms)
    monkeypatch.setattr(train_baseline, "NUM_IMAGES", 20)

    def command(*arguments):
        required = ("--dataset=phantom:60", f"--workdir={tmp_path / 'new' / 'run'}")
        return benchmark_command.run(train_baseline, *required, *arguments)

    return command


def test_gaussian_writes_images_of_both_classes_once(command, tmp_path, capsys):
    assert command("--baseline=gaussian") == 0
    images, labels, _ = image_input.read(str(tmp_path / "new/run/images.npz"))
    assert images.shape == (20, 64, 64, 1) and images.std() > 10
    assert np.bincount(labels).tolist() == [10, 10]
    assert command("--baseline=gaussian") == 1
    assert "exists already; give another --workdir" in capsys.readouterr().err


def test_recipe_is_trained_on_balanced_batches(torch, command, tmp_path, monkeypatch):
    from benchmarks.baselines import recipe

    batches = []
    monkeypatch.setattr(
        recipe.Recipe, "train_step", lambda _, *batch: batches.append(batch)
    )
    assert command("--baseline=recipe", "--kimg=0.1") == 0
    assert len(batches) == 4
    image, label = batches[0]
    assert image.dtype == np.uint8 and image.shape == (32, 64, 64, 1)
    assert np.bincount(label).tolist() == [16, 16]
    images, _, _ = image_input.read(str(tmp_path / "new/run/images.npz"))
    assert len(images) == 20


# The Gaussian


def test_samples_have_the_mean_and_covariance_of_the_images():
    """With images of 8 x 8 pixels that vary along two directions only."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(64, 2)))[0]
    images = 128 + rng.normal(size=(4_000, 2)) * [60, 30] @ directions.T
    images = np.round(images).astype(np.uint8).reshape(-1, 8, 8, 1)
    samples = train_baseline.sample_gaussian(images, 2, 4_000, rng).reshape(4_000, 64)
    real = images.reshape(4_000, 64).astype(float)
    np.testing.assert_allclose(samples.mean(0), real.mean(0), atol=2)
    for axis, deviation in zip(directions.T, (60, 30), strict=True):
        assert (samples @ axis).std() == pytest.approx(deviation, rel=0.05)
    rest = samples - samples.mean(0)
    rest = rest - rest @ directions @ directions.T
    assert rest.std() < 0.5  # only rounding


# The recipe


@pytest.fixture
def torch():
    return pytest.importorskip(
        "torch", reason="PyTorch is not installed: pip install -e '.[bench]'"
    )


@pytest.fixture
def recipe(torch):
    from benchmarks.baselines import recipe

    torch.set_num_threads(1)
    return recipe.Recipe(num_classes=2, seed=0)


def test_step_updates_both_networks_and_the_ema(torch, recipe):
    networks = (recipe.g, recipe.d, recipe.ema)
    before = [[p.detach().clone() for p in net.parameters()] for net in networks]
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 1), np.uint8)
    recipe.train_step(image, LABEL)
    after = [[*net.parameters()] for net in networks]
    for old, new in zip(before[:2], after[:2], strict=True):
        assert any((a != b).any() for a, b in zip(old, new, strict=True))
    for old, weight, mean in zip(before[2], after[0], after[2], strict=True):
        torch.testing.assert_close(mean, old + 0.002 * (weight - old))
    assert all(p.requires_grad for p in recipe.d.parameters())
    assert all(p.grad is None for p in (*after[0], *after[1]))
    images = recipe.generate(LABEL, seed=0)
    assert images.shape == (32, 64, 64) and images.dtype == np.uint8
