"""benchmarks.gaussian: one Gaussian per class, and its command."""

import numpy as np
import pytest
from absl import flags

from benchmarks import gaussian
from cxr_gan import data
from cxr_gan.evaluation import image_input


def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return data.load("phantom:60", 32, split_seed=0, cache_dir=cache)


def test_samples_have_the_mean_and_covariance_of_the_images():
    """With images of 8 x 8 pixels that vary along two directions only."""
    directions = np.linalg.qr(rng().normal(size=(64, 2)))[0]
    images = 128 + rng().normal(size=(4_000, 2)) * [60, 30] @ directions.T
    images = np.round(images).astype(np.uint8).reshape(-1, 8, 8, 1)
    samples = gaussian.sample(images, 2, 4_000, rng()).reshape(4_000, 64)
    real = images.reshape(4_000, 64).astype(float)
    np.testing.assert_allclose(samples.mean(0), real.mean(0), atol=2)
    for axis, deviation in zip(directions.T, (60, 30), strict=True):
        assert (samples @ axis).std() == pytest.approx(deviation, rel=0.05)
    rest = samples - samples.mean(0)
    rest = rest - rest @ directions @ directions.T
    assert rest.std() < 0.5  # only rounding


def test_as_many_components_as_images_are_refused(phantoms):
    images = phantoms.train.images[:20]
    with pytest.raises(ValueError, match="give --components=19 or fewer"):
        gaussian.sample(images, 20, 1, rng())
    assert gaussian.sample(images, 19, 1, rng()).shape == (1, 32, 32, 1)


def command(*arguments):
    values = flags.FlagValues()
    gaussian.define_flags(values)
    values(["gaussian", "--dataset=phantom:60", "--resolution=32", *arguments])
    return gaussian.main(["gaussian"], values)


def test_file_can_be_read_by_evaluate(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(gaussian.data, "load", lambda *_, **__: phantoms)
    out = tmp_path / "samples.npz"
    assert command(f"--out={out}", "--components=5", "--count=7") == 0
    images = image_input.read(str(out))
    assert images.images.shape == (14, 32, 32, 1)
    assert np.bincount(images.labels(phantoms.class_names)).tolist() == [7, 7]


@pytest.mark.parametrize(
    ("name", "message"),
    [("samples.png", "ends in .npz"), ("existing.npz", "exists already")],
)
def test_other_suffixes_and_existing_files_are_refused(name, message, tmp_path, capsys):
    (tmp_path / "existing.npz").write_text("mine")
    assert command(f"--out={tmp_path / name}") == 1
    assert message in capsys.readouterr().err
    assert (tmp_path / "existing.npz").read_text() == "mine"
