import numpy as np
import pytest

from cxr_gan.metrics import spectrum
from cxr_gan.metrics.spectrum import log_power, octave_difference, octave_edges

SILENCE = 10 * np.log10(spectrum.FLOOR)  # dB


def wave(down, across, size=64, amplitude=0.25, phase=0.3):
    """One image of a cosine of so many cycles per image: float64 [1, s, s, 1]."""
    row, column = np.mgrid[:size, :size] / size
    angle = 2 * np.pi * (down * row + across * column) + phase
    return (0.5 + amplitude * np.cos(angle))[None, ..., None]


def noise(n, size=64, deviation=0.1, seed=0):
    x = np.random.default_rng(seed).normal(0.5, deviation, (n, size, size, 1))
    return x.clip(0, 1)


def test_octaves_end_at_half_a_cycle_per_pixel():
    np.testing.assert_array_equal(octave_edges(64), [1 / 32, 1 / 16, 1 / 8, 1 / 4, 0.5])
    np.testing.assert_array_equal(octave_edges(100), octave_edges(64))
    np.testing.assert_array_equal(octave_edges(8), [1 / 4, 1 / 2])
    assert octave_edges(256)[0] == 1 / 128


@pytest.mark.parametrize(
    ("down", "across", "octave"),
    [(2, 0, 0), (0, 6, 1), (8, 9, 2), (12, 0, 2), (0, 24, 3), (28, 28, 3)],
)
def test_a_cosine_has_its_power_in_its_octave_alone(down, across, octave):
    decibel = log_power(wave(down, across))
    loud = decibel > SILENCE + 1
    np.testing.assert_array_equal(loud, np.arange(4) == octave)


def test_white_noise_has_its_variance_in_each_octave():
    decibel = log_power(noise(200))
    np.testing.assert_allclose(decibel, -20, atol=0.3)


def test_half_the_contrast_is_a_quarter_of_the_power():
    images = noise(20)
    decibel = octave_difference(0.5 * images + 0.25, images)
    np.testing.assert_allclose(decibel, 10 * np.log10(1 / 4), atol=1e-6)


def test_brightness_has_no_power():
    np.testing.assert_allclose(log_power(np.full((2, 64, 64, 1), 0.7)), SILENCE)


def test_borders_that_do_not_meet_are_not_detail():
    # A slope, which jumps from 1 to 0 across the border: detail of all frequencies.
    slope = np.broadcast_to(np.linspace(0, 1, 64)[:, None, None], (1, 64, 64, 1))
    assert (log_power(slope)[2:] < SILENCE + 3).all()


def test_blur_lacks_power_in_the_highest_octave_most():
    sharp = noise(20)
    blurred = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 1, 2)) / 3
    decibel = octave_difference(blurred, sharp)
    assert (np.diff(decibel) < 0).all()
    assert decibel[-1] < -3
    np.testing.assert_allclose(octave_difference(sharp, blurred), -decibel)


def test_a_chequerboard_is_in_the_highest_octave():
    board = np.indices((64, 64)).sum(0) % 2
    images = noise(10, deviation=0.05)
    decibel = octave_difference(0.9 * images + 0.05 * board[None, ..., None], images)
    assert decibel.argmax() == 3


def test_uint8_and_float_are_the_same_images():
    images = (255 * noise(5)).round().astype(np.uint8)
    np.testing.assert_allclose(log_power(images), log_power(images / 255))


def test_number_of_images_at_once_and_their_order_do_not_matter(monkeypatch):
    images = noise(9, size=32) * np.linspace(0.2, 1, 9)[:, None, None, None]
    whole = log_power(images)
    monkeypatch.setattr(spectrum, "IMAGES_AT_ONCE", 2)
    np.testing.assert_allclose(log_power(images[::-1]), whole)


@pytest.mark.parametrize(
    ("images", "error", "words"),
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
def test_what_is_not_an_image_is_refused(images, error, words):
    with pytest.raises(error, match=words):
        log_power(images)


def test_images_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="sizes must be equal"):
        octave_difference(noise(2), noise(2, size=32))


def test_profiles_of_images_have_the_log_power_of_their_mean():
    images = noise(5)
    rings = spectrum.profiles(images)
    assert rings.shape[0] == 5
    decibel = spectrum.octaves(rings.mean(0), 64)
    np.testing.assert_array_equal(decibel, log_power(images))
    one = spectrum.octaves(spectrum.profiles(images[2:3])[0], 64)
    np.testing.assert_array_equal(one, spectrum.octaves(rings[2], 64))
