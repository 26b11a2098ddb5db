import jax
import numpy as np
import pytest

from benchmarks.encoder_training import random_exposure
from cxr_gan.evaluation.metrics import augmentations, resize

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((50, 16, 16, 1), np.float32)


def test_random_shift_translates_by_up_to_max_shift(images):
    shifted = np.asarray(augmentations.random_shift(images, KEY, 2))
    shifts = set()
    for image, new in zip(images, shifted, strict=True):
        for y in range(-2, 3):
            for x in range(-2, 3):
                interior = image[4 + y : 12 + y, 4 + x : 12 + x]
                if np.array_equal(interior, new[4:12, 4:12]):
                    shifts.add((y, x))
    assert len(shifts) > 15


def test_random_blur_lowers_contrast_and_keeps_the_mean(images):
    blurred = np.asarray(augmentations.random_blur(images, KEY, 1.0))
    assert (blurred.std((1, 2, 3)) < images.std((1, 2, 3))).all()
    means = images.mean((1, 2, 3))
    np.testing.assert_allclose(blurred.mean((1, 2, 3)), means, atol=0.02)
    flat = np.full((2, 16, 16, 1), 0.3, np.float32)
    blurred = augmentations.random_blur(flat, KEY, 1.0)
    np.testing.assert_allclose(blurred, flat, atol=1e-6)


def test_random_noise_has_a_standard_deviation_up_to_max_sigma(images):
    noise = np.asarray(augmentations.random_noise(images, KEY, 0.1)) - images
    sigma = noise.std((1, 2, 3))
    assert sigma.min() < 0.02 and 0.08 < sigma.max() < 0.12


def test_random_exposure_is_affine_within_gain_and_offset(images):
    exposed = np.asarray(random_exposure(images, KEY, 0.2, 0.1))
    for image, new in zip(images, exposed, strict=True):
        gain, level = np.polyfit(image.ravel() - 0.5, new.ravel(), 1)
        assert 0.8 <= gain <= 1.2 and 0.4 <= level <= 0.6


def test_resize_by_an_integer_factor_is_mean_pooling(images):
    small = np.asarray(resize.resize(images, 4))
    expected = images.reshape(50, 4, 4, 4, 4, 1).mean((2, 4))
    np.testing.assert_allclose(small, expected, atol=1e-6)


@pytest.mark.parametrize("size", [12, 16, 24, 32])
def test_resize_keeps_a_linear_ramp_linear(size):
    ramp = ((np.arange(16) + 0.5) / 16).astype(np.float32)
    image = np.broadcast_to(ramp[None, :, None], (1, 16, 16, 1))
    interior = np.asarray(resize.resize(image, size))[0, :, 3:-3, 0]
    expected = ((np.arange(size) + 0.5) / size)[3:-3]
    expected = np.broadcast_to(expected, interior.shape)
    np.testing.assert_allclose(interior, expected, atol=2e-3)
