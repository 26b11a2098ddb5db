"""Images at another size without aliasing, for judges that read one size only."""

import jax
import jax.numpy as jnp


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 [...] -> float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255


def resize(images: jax.Array, size: int) -> jax.Array:
    """float32 [n, s, s, 1] -> [n, size, size, 1].

    Where s is a multiple of size, the mean of each square of pixels; else linear, with
    a triangle as wide as the new pixels where they are larger.
    """
    n, given = images.shape[:2]
    if given == size:
        return images
    if given % size == 0:
        k = given // size
        return images.reshape(n, size, k, size, k, 1).mean((2, 4))
    return jax.image.resize(images, (n, size, size, 1), "linear", antialias=True)


def unshuffle(x: jax.Array, factor: int) -> jax.Array:
    """[n, h, w, c] -> [n, h / factor, w / factor, c factor^2]: squares become channels.

    A first layer at full resolution has few channels and most of the pixels: slow, and
    of little use.
    """
    n, height, width, channels = x.shape
    h, w = height // factor, width // factor
    squares = x.reshape(n, h, factor, w, factor, channels).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(n, h, w, factor**2 * channels)
