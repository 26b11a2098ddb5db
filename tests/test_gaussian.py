"""The simplest generator: a Gaussian of each class, and its command."""

import numpy as np
import pytest
from absl import flags

from benchmarks import gaussian
from cxr_gan import data, given


def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return data.load("phantom:60", 32, split_seed=0, cache_dir=cache)


def test_what_is_drawn_has_the_mean_and_covariance_of_the_images():
    """Of 8 x 8 pixels that vary along two directions alone."""
    directions = np.linalg.qr(rng().normal(size=(64, 2)))[0]
    images = 128 + rng().normal(size=(4_000, 2)) * [60, 30] @ directions.T
    images = np.round(images).astype(np.uint8).reshape(-1, 8, 8, 1)
    drawn = gaussian.draw(images, 2, 4_000, rng()).reshape(4_000, 64)
    real = images.reshape(4_000, 64).astype(float)
    np.testing.assert_allclose(drawn.mean(0), real.mean(0), atol=2)
    for axis, deviation in zip(directions.T, (60, 30), strict=True):
        assert (drawn @ axis).std() == pytest.approx(deviation, rel=0.05)
    across = drawn - drawn.mean(0)
    across = across - across @ directions @ directions.T
    assert across.std() < 0.5  # rounding alone


def test_more_components_than_a_class_has_images_are_refused(phantoms):
    images = phantoms.train.images[:20]
    with pytest.raises(ValueError, match="give --components=19 or fewer"):
        gaussian.draw(images, 20, 1, rng())
    assert gaussian.draw(images, 19, 1, rng()).shape == (1, 32, 32, 1)


def command(*words):
    values = flags.FlagValues()
    gaussian.define_flags(values)
    values(["gaussian", "--dataset=phantom:60", "--resolution=32", *words])
    return gaussian.main(["gaussian"], values)


def test_the_file_is_one_that_evaluate_takes(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(gaussian.data, "load", lambda *_, **__: phantoms)
    out = tmp_path / "drawn.npz"
    assert command(f"--out={out}", "--components=5", "--count=7") == 0
    read = given.read(str(out))
    assert read.images.shape == (14, 32, 32, 1)
    assert np.bincount(read.labels(phantoms.class_names)).tolist() == [7, 7]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("drawn.png", "ends in .npz"), ("there.npz", "is there already")],
)
def test_other_names_and_files_that_are_there_are_refused(
    name, complaint, tmp_path, capsys
):
    (tmp_path / "there.npz").write_text("mine")
    assert command(f"--out={tmp_path / name}") == 1
    assert complaint in capsys.readouterr().err
    assert (tmp_path / "there.npz").read_text() == "mine"
