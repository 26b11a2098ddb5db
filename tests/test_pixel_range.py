import jax.numpy as jnp
import numpy as np

from cxr_gan.models import pixel_range

PIXELS = np.arange(256, dtype=np.uint8)


def test_every_pixel_value_survives_a_round_trip():
    unit = pixel_range.to_unit(pixel_range.from_uint8(PIXELS))
    np.testing.assert_array_equal(pixel_range.to_uint8(unit), PIXELS)


def test_from_uint8_maps_pixels_to_minus_one_to_one():
    floats = pixel_range.from_uint8(PIXELS)
    assert floats.dtype == jnp.float32
    assert (floats[0], floats[-1]) == (-1, 1)
    np.testing.assert_allclose(np.diff(floats), 2 / 255, rtol=1e-4)


def test_to_unit_maps_to_zero_to_one_and_clips_values_outside():
    unit = pixel_range.to_unit(jnp.array([-7.0, -1.0, 0.0, 0.5, 1.0, 7.0]))
    np.testing.assert_array_equal(unit, [0, 0, 0.5, 0.75, 1, 1])


def test_to_uint8_clips_instead_of_wrapping():
    pixels = pixel_range.to_uint8(jnp.array([-0.01, -100.0, 1.01, 100.0]))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, [0, 0, 255, 255])


def test_to_uint8_rounds_to_nearest():
    below, above = ((PIXELS[:-1] + offset) / 255 for offset in (0.49, 0.51))
    np.testing.assert_array_equal(pixel_range.to_uint8(below), PIXELS[:-1])
    np.testing.assert_array_equal(pixel_range.to_uint8(above), PIXELS[1:])
