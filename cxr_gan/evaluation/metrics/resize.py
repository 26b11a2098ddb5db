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


def unshuffle(x: jax.Array, factor: int) -> jax.Array:
    """Space to depth: [n, h, w, c] -> [n, h / factor, w / factor, c factor^2].

    Used before a first convolution: at full resolution that layer has few channels and
    most of the pixels, so it is slow and contributes little.
    """
    n, height, width, channels = x.shape
    h, w = height // factor, width // factor
    blocks = x.reshape(n, h, factor, w, factor, channels).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h, w, factor**2 * channels)
