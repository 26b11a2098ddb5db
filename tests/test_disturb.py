import jax
import numpy as np
import pytest

from cxr_gan.metrics import disturb, resize

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((50, 16, 16, 1), np.float32)


def test_moving_keeps_the_inside_and_goes_as_far_as_told(images):
    moved = np.asarray(disturb.move(images, KEY, 2))
    shifts = set()
    for image, new in zip(images, moved, strict=True):
        for y in range(-2, 3):
            for x in range(-2, 3):
                inside = image[4 + y : 12 + y, 4 + x : 12 + x]
                if np.array_equal(inside, new[4:12, 4:12]):
                    shifts.add((y, x))
    assert len(shifts) > 15


def test_softening_lowers_contrast_and_keeps_the_mean(images):
    soft = np.asarray(disturb.soften(images, KEY, 1.0))
    assert (soft.std((1, 2, 3)) < images.std((1, 2, 3))).all()
    np.testing.assert_allclose(soft.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=0.02)
    flat = np.full((2, 16, 16, 1), 0.3, np.float32)
    np.testing.assert_allclose(disturb.soften(flat, KEY, 1.0), flat, atol=1e-6)


def test_grain_is_of_no_more_than_the_deviation_told(images):
    added = np.asarray(disturb.grain(images, KEY, 0.1)) - images
    spread = added.std((1, 2, 3))
    assert spread.max() < 0.12
    assert spread.max() > 0.08
    assert spread.min() < 0.02


def test_exposure_is_a_line_within_its_bounds(images):
    shown = np.asarray(disturb.expose(images, KEY, 0.2, 0.1))
    for image, new in zip(images, shown, strict=True):
        slope, level = np.polyfit(image.ravel() - 0.5, new.ravel(), 1)
        assert 0.8 <= slope <= 1.2
        assert 0.4 <= level <= 0.6


def test_whole_fractions_of_a_size_are_means_of_squares(images):
    small = np.asarray(resize.resize(images, 4))
    wanted = images.reshape(50, 4, 4, 4, 4, 1).mean((2, 4))
    np.testing.assert_allclose(small, wanted, atol=1e-6)


@pytest.mark.parametrize("size", [12, 16, 24, 32])
def test_a_slope_stays_a_slope_at_any_size(size):
    slope = ((np.arange(16) + 0.5) / 16).astype(np.float32)
    image = np.broadcast_to(slope[None, :, None], (1, 16, 16, 1))
    inside = np.asarray(resize.resize(image, size))[0, :, 3:-3, 0]
    wanted = ((np.arange(size) + 0.5) / size)[3:-3]
    np.testing.assert_allclose(inside, np.broadcast_to(wanted, inside.shape), atol=2e-3)


def test_unshuffling_keeps_every_pixel(images):
    h = np.asarray(resize.unshuffle(images, 4))
    assert h.shape == (50, 4, 4, 16)
    np.testing.assert_array_equal(h[:, 1, 2], images[:, 4:8, 8:12].reshape(50, 16))
