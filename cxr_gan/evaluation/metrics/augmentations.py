"""Augmentations that preserve the medical content of a radiograph.

Networks that serve as metrics are trained with them. Generated images are smoother or
noisier than real ones and are shifted by a pixel or two; a network that reads anatomy
or class must be invariant to these differences.
"""

import jax
import jax.numpy as jnp
import numpy as np


def random_shift(images: jax.Array, rng: jax.Array, max_shift: int) -> jax.Array:
    """Shifts each image by up to `max_shift` pixels in both directions.

    float32 [n, s, s, 1] -> the same shape. Shifts are whole pixels, uniform in
    -max_shift..max_shift. Pixels beyond the border repeat the nearest edge pixel.
    """
    margin = (max_shift, max_shift)
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode="edge")
    corners = jax.random.randint(rng, (len(images), 2), 0, 2 * max_shift + 1)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)


def random_blur(images: jax.Array, rng: jax.Array, sigma: float) -> jax.Array:
    """Mixes each image with its Gaussian blur: x + u (blur(x) - x).

    float32 [n, s, s, 1] -> the same shape. u is uniform in [0, 1). `sigma` is the
    standard deviation of the Gaussian in pixels. Pixels beyond the border repeat the
    nearest edge pixel.
    """
    matrix = _blur_matrix(images.shape[1], sigma)
    blurred = jnp.einsum("ih,jw,nhwc->nijc", matrix, matrix, images)
    fraction = jax.random.uniform(rng, (len(images), 1, 1, 1))
    return images + fraction * (blurred - images)


def random_noise(images: jax.Array, rng: jax.Array, max_sigma: float) -> jax.Array:
    """Adds Gaussian white noise to each image: float32 [n, s, s, 1] -> the same shape.

    The standard deviation is uniform in [0, max_sigma), drawn once for each image.
    """
    sigma_rng, noise_rng = jax.random.split(rng)
    fraction = jax.random.uniform(sigma_rng, (len(images), 1, 1, 1))
    return images + max_sigma * fraction * jax.random.normal(noise_rng, images.shape)


def _blur_matrix(size: int, sigma: float) -> np.ndarray:
    """float32 [size, size]: row i holds a Gaussian centred on i, truncated at 4 sigma.

    Weights that fall outside the image are added to those of the edge pixel.
    """
    radius = int(np.ceil(4 * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    rows = np.arange(size)[:, None]
    matrix = np.zeros((size, size), np.float32)
    columns = np.clip(rows + offsets, 0, size - 1)
    np.add.at(matrix, (rows, columns), weights / weights.sum())
    return matrix
