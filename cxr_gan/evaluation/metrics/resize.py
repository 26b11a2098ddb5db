"""Resizing of images without aliasing, for networks that read one size only."""

import jax
import jax.numpy as jnp


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 [...] -> float32 [...] in [0, 1]."""
    return images.astype(jnp.float32) / 255


def resize(images: jax.Array, size: int) -> jax.Array:
    """float32 [n, s, s, 1] -> [n, size, size, 1].

    If s is a multiple of `size`, each output pixel is the mean of a square of input
    pixels. Otherwise linear interpolation; when shrinking, the triangle kernel is
    widened to the size of the output pixels (antialiasing).
    """
    n, old_size = images.shape[:2]
    if old_size == size:
        return images
    if old_size % size == 0:
        k = old_size // size
        return images.reshape(n, size, k, size, k, 1).mean((2, 4))
    return jax.image.resize(images, (n, size, size, 1), "linear", antialias=True)
