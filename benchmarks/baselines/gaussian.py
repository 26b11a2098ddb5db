"""One Gaussian distribution of pixels for each class.

Each is fitted to the training images in the space of their first principal components;
its samples are clipped to grey levels. A generator that learns more than means and
covariances must be better than this baseline.
"""

import numpy as np

COMPONENTS = 200


def sample(
    images: np.ndarray, components: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Samples of a Gaussian fitted to the images of one class.

    Args:
        images: uint8 [n, s, s, 1].
        components: number of principal components; at most n - 1 are used.
        count: number of samples.
        rng: source of the samples.

    Returns:
        uint8 [count, s, s, 1].
    """
    components = min(components, len(images) - 1)
    pixels = images.reshape(len(images), -1).astype(np.float64)
    mean = pixels.mean(0)
    _, singular_values, axes = np.linalg.svd(pixels - mean, full_matrices=False)
    deviations = singular_values[:components] / np.sqrt(len(images) - 1)
    z = rng.standard_normal((count, components))
    samples = mean + (z * deviations) @ axes[:components]
    samples = np.clip(np.round(samples), 0, 255).astype(np.uint8)
    return samples.reshape(count, *images.shape[1:])
