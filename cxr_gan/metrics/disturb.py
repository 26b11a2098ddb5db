"""Changes that leave a radiograph's meaning alone, for judges to learn to overlook.

Generated images are smoother or grainier than real ones and sit elsewhere by a pixel or
two; a judge of anatomy or class must not read that.
"""

import jax
import jax.numpy as jnp
import numpy as np


def move(images: jax.Array, rng: jax.Array, reach: int) -> jax.Array:
    """float32 [n, s, s, 1], each moved by up to `reach` pixels; edges are drawn out."""
    margin = (reach, reach)
    wide = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode="edge")
    corners = jax.random.randint(rng, (len(images), 2), 0, 2 * reach + 1)

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(cut)(wide, corners)


def soften(images: jax.Array, rng: jax.Array, deviation: float) -> jax.Array:
    """float32 [n, s, s, 1], each between itself and a blurred copy of itself.

    `deviation` in pixels is that of the Gaussian; edges are drawn out.
    """
    matrix = _blur_matrix(images.shape[1], deviation)
    soft = jnp.einsum("ih,jw,nhwc->nijc", matrix, matrix, images)
    share = jax.random.uniform(rng, (len(images), 1, 1, 1))
    return images + share * (soft - images)


def grain(images: jax.Array, rng: jax.Array, deviation: float) -> jax.Array:
    """float32 [n, s, s, 1] with white noise, of up to `deviation` on each image."""
    amount, noise = jax.random.split(rng)
    share = jax.random.uniform(amount, (len(images), 1, 1, 1))
    return images + deviation * share * jax.random.normal(noise, images.shape)


def expose(images: jax.Array, rng: jax.Array, gain: float, offset: float) -> jax.Array:
    """float32 [n, s, s, 1], each a (x - 1/2) + 1/2 + b.

    a is from 1 - gain to 1 + gain, b from -offset to offset; nothing is clipped.
    """
    shape = (2, len(images), 1, 1, 1)
    a, b = jax.random.uniform(rng, shape, minval=-1, maxval=1)
    return (1 + gain * a) * (images - 0.5) + 0.5 + offset * b


def _blur_matrix(size: int, deviation: float) -> np.ndarray:
    """float32 [size, size]: row i has the Gaussian about i; edges are drawn out."""
    reach = int(np.ceil(4 * deviation))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    rows = np.arange(size)[:, None]
    matrix = np.zeros((size, size), np.float32)
    columns = np.clip(rows + offsets, 0, size - 1)
    np.add.at(matrix, (rows, columns), weights / weights.sum())
    return matrix
