import jax.numpy as jnp
import numpy as np

from cxr_gan import images

PIXELS = np.arange(256, dtype=np.uint8)


def test_every_pixel_value_survives_the_way_there_and_back():
    unit = images.to_unit(images.from_uint8(PIXELS))
    np.testing.assert_array_equal(images.to_uint8(unit), PIXELS)


def test_pixels_span_minus_one_to_one():
    floats = images.from_uint8(PIXELS)
    assert floats.dtype == jnp.float32
    assert (floats[0], floats[-1]) == (-1, 1)
    np.testing.assert_allclose(np.diff(floats), 2 / 255, rtol=1e-4)


def test_unit_images_span_zero_to_one_and_are_clipped_outside():
    unit = images.to_unit(jnp.array([-7.0, -1.0, 0.0, 0.5, 1.0, 7.0]))
    np.testing.assert_array_equal(unit, [0, 0, 0.5, 0.75, 1, 1])


def test_pixels_are_clipped_not_wrapped():
    pixels = images.to_uint8(jnp.array([-0.01, -100.0, 1.01, 100.0]))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, [0, 0, 255, 255])


def test_pixels_are_rounded_to_the_nearest():
    below, above = ((PIXELS[:-1] + part) / 255 for part in (0.49, 0.51))
    np.testing.assert_array_equal(images.to_uint8(below), PIXELS[:-1])
    np.testing.assert_array_equal(images.to_uint8(above), PIXELS[1:])
