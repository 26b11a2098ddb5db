import numpy as np
import pytest

from cxr_gan.evaluation.metrics import power_spectrum
from cxr_gan.evaluation.metrics.power_spectrum import octave_edges

MIN_POWER = 10 * np.log10(power_spectrum.FLOOR)  # dB


def wave(down, across, size=64, amplitude=0.25, phase=0.3):
    """A cosine of `down` and `across` cycles per image: float64 [1, s, s, 1]."""
    row, column = np.mgrid[:size, :size] / size
    angle = 2 * np.pi * (down * row + across * column) + phase
    return (0.5 + amplitude * np.cos(angle))[None, ..., None]


def noise(n, size=64, sigma=0.1):
    return np.random.default_rng(0).normal(0.5, sigma, (n, size, size, 1))


def uint8(images):
    return np.rint(255 * images.clip(0, 1)).astype(np.uint8)


def bands(images):
    """Power in each octave, and of each alternation, of images in [0, 1]; dB."""
    profile = power_spectrum.profiles(uint8(images)).mean(0)
    return np.split(power_spectrum.bands(profile, images.shape[1]), [-5])


def log_power(images):
    return bands(images)[0]


def test_highest_octave_ends_at_half_a_cycle_per_pixel():
    np.testing.assert_array_equal(octave_edges(64), [1 / 32, 1 / 16, 1 / 8, 1 / 4, 0.5])
    np.testing.assert_array_equal(octave_edges(100), octave_edges(64))
    np.testing.assert_array_equal(octave_edges(8), [1 / 4, 1 / 2])
    assert octave_edges(256)[0] == 1 / 128
    with pytest.raises(ValueError, match="use at least 8"):
        octave_edges(4)


@pytest.mark.parametrize(
    ("down", "across", "octave"),
    [(2, 0, 0), (0, 6, 1), (8, 9, 2), (12, 0, 2), (0, 24, 3), (32, 32, 3)],
)
def test_power_of_a_cosine_is_in_its_octave(down, across, octave):
    assert log_power(wave(down, across)).argmax() == octave


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    ("row", "down", "across"),  # periods in pixels; 0: constant along this axis
    [(0, 2, 0), (1, 0, 2), (2, 2, 2), (3, 4, 0), (4, 0, 4)],
)
def test_stripes_and_checkerboards_are_alternations(row, down, across, size):
    cycles = [size / period if period else 0 for period in (down, across)]
    alternations = bands(wave(*cycles, size))[1]
    assert alternations[row] > max(*np.delete(alternations, row)) + 20


def test_slower_waves_are_no_alternations():
    for cycles in ((8, 0), (0, 8), (8, 8)):
        assert (bands(wave(*cycles))[1] < MIN_POWER + 3).all()


@pytest.mark.parametrize("sigma", [0.05, 0.1])
def test_power_of_white_noise_is_its_variance_in_each_band(sigma):
    decibel = 10 * np.log10(sigma**2)
    for values in bands(noise(200, sigma=sigma)):
        np.testing.assert_allclose(values, decibel, atol=0.3)


def test_constant_image_has_no_power():
    np.testing.assert_allclose(log_power(np.full((2, 64, 64, 1), 0.7)), MIN_POWER)


def test_step_between_opposite_borders_adds_no_detail():
    # Without a window, the step from 1 to 0 at the border has power at all frequencies.
    ramp = np.broadcast_to(np.linspace(0, 1, 64)[:, None, None], (1, 64, 64, 1))
    assert (log_power(ramp)[2:] < MIN_POWER + 3).all()


def test_profiles_do_not_depend_on_batch_size_or_other_images(monkeypatch):
    images = uint8(noise(9, size=32) * np.linspace(0.2, 1, 9)[:, None, None, None])
    expected = power_spectrum.profiles(images)
    monkeypatch.setattr(power_spectrum, "IMAGES_PER_BATCH", 2)
    np.testing.assert_allclose(power_spectrum.profiles(images[::-1])[::-1], expected)
