import numpy as np
import pytest

from cxr_gan.evaluation.metrics import power_spectrum
from cxr_gan.evaluation.metrics.power_spectrum import (
    log_power,
    octave_difference,
    octave_edges,
)

MIN_POWER = 10 * np.log10(power_spectrum.FLOOR)  # dB


def wave(down, across, size=64, amplitude=0.25, phase=0.3):
    """A cosine of `down` and `across` cycles per image: float64 [1, s, s, 1]."""
    row, column = np.mgrid[:size, :size] / size
    angle = 2 * np.pi * (down * row + across * column) + phase
    return (0.5 + amplitude * np.cos(angle))[None, ..., None]


def noise(n, size=64, sigma=0.1, seed=0):
    x = np.random.default_rng(seed).normal(0.5, sigma, (n, size, size, 1))
    return x.clip(0, 1)


def test_highest_octave_ends_at_half_a_cycle_per_pixel():
    np.testing.assert_array_equal(octave_edges(64), [1 / 32, 1 / 16, 1 / 8, 1 / 4, 0.5])
    np.testing.assert_array_equal(octave_edges(100), octave_edges(64))
    np.testing.assert_array_equal(octave_edges(8), [1 / 4, 1 / 2])
    assert octave_edges(256)[0] == 1 / 128


@pytest.mark.parametrize(
    ("down", "across", "octave"),
    [(2, 0, 0), (0, 6, 1), (8, 9, 2), (12, 0, 2), (0, 24, 3), (28, 28, 3)],
)
def test_power_of_a_cosine_is_in_its_octave_only(down, across, octave):
    decibel = log_power(wave(down, across))
    above_floor = decibel > MIN_POWER + 1
    np.testing.assert_array_equal(above_floor, np.arange(4) == octave)


def test_power_of_white_noise_is_its_variance_in_each_octave():
    decibel = log_power(noise(200))
    np.testing.assert_allclose(decibel, -20, atol=0.3)


def test_half_the_contrast_has_a_quarter_of_the_power():
    images = noise(20)
    decibel = octave_difference(0.5 * images + 0.25, images)
    np.testing.assert_allclose(decibel, 10 * np.log10(1 / 4), atol=1e-6)


def test_constant_image_has_no_power():
    np.testing.assert_allclose(log_power(np.full((2, 64, 64, 1), 0.7)), MIN_POWER)


def test_step_between_opposite_borders_adds_no_detail():
    # Without a window, the step from 1 to 0 at the border has power at all frequencies.
    ramp = np.broadcast_to(np.linspace(0, 1, 64)[:, None, None], (1, 64, 64, 1))
    assert (log_power(ramp)[2:] < MIN_POWER + 3).all()


def test_blur_reduces_power_most_in_the_highest_octave():
    sharp = noise(20)
    blurred = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 1, 2)) / 3
    decibel = octave_difference(blurred, sharp)
    assert (np.diff(decibel) < 0).all()
    assert decibel[-1] < -3
    np.testing.assert_allclose(octave_difference(sharp, blurred), -decibel)


def test_power_of_a_checkerboard_is_in_the_highest_octave():
    board = np.indices((64, 64)).sum(0) % 2
    images = noise(10, sigma=0.05)
    decibel = octave_difference(0.9 * images + 0.05 * board[None, ..., None], images)
    assert decibel.argmax() == 3


def test_uint8_and_float_images_have_equal_power():
    images = (255 * noise(5)).round().astype(np.uint8)
    np.testing.assert_allclose(log_power(images), log_power(images / 255))


def test_power_does_not_depend_on_batch_size_or_order(monkeypatch):
    images = noise(9, size=32) * np.linspace(0.2, 1, 9)[:, None, None, None]
    expected = log_power(images)
    monkeypatch.setattr(power_spectrum, "IMAGES_PER_BATCH", 2)
    np.testing.assert_allclose(log_power(images[::-1]), expected)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((4, 64, 64)), ValueError, r"\[4, 64, 64\]; must be \[n, s, s, 1\]"),
        (np.zeros((4, 64, 32, 1)), ValueError, "must be"),
        (np.zeros((0, 64, 64, 1)), ValueError, "n >= 1"),
        (np.zeros((4, 4, 4, 1)), ValueError, "use at least 8"),
        (np.zeros((4, 64, 64, 1), int), TypeError, "images are int64; use uint8"),
        (
            np.full((4, 64, 64, 1), -1.0),
            ValueError,
            "from -1.0 to -1.0; must be from 0",
        ),
        (np.full((4, 64, 64, 1), np.nan), ValueError, "from nan"),
    ],
)
def test_invalid_images_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        log_power(images)


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="sizes must be equal"):
        octave_difference(noise(2), noise(2, size=32))


def test_log_power_is_octaves_of_the_mean_profile():
    images = noise(5)
    profiles = power_spectrum.profiles(images)
    assert profiles.shape[0] == 5
    decibel = power_spectrum.octaves(profiles.mean(0), 64)
    np.testing.assert_array_equal(decibel, log_power(images))
    one = power_spectrum.octaves(power_spectrum.profiles(images[2:3])[0], 64)
    np.testing.assert_array_equal(one, power_spectrum.octaves(profiles[2], 64))
