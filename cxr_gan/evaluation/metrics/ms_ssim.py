"""Diversity of a set of images: mean multi-scale structural similarity of its pairs.

Odena et al. 2017, "Auxiliary Classifier GANs", section 4.2: if a generator produces the
same image of a class every time, the mean is near 1; if it is as diverse as the data,
the mean equals that of the data. The metric does not measure quality: noise is diverse
as well.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from cxr_gan.evaluation.metrics.batching import blocks, check_images
from cxr_gan.evaluation.metrics.resize import resize

# Exponents of the scales, fine to coarse: beta_1..5 = gamma_1..5, and alpha_5. Wang,
# Simoncelli & Bovik 2003, "Multi-scale structural similarity for image quality
# assessment", section 3.2.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# K_1, K_2 and the Gaussian window: Wang et al. 2004, "Image quality assessment: from
# error visibility to structural similarity", section III.
C1 = 0.01**2  # (K_1 L)^2, for values from 0 to L = 1; stabilises the luminance term
C2 = 0.03**2  # (K_2 L)^2; stabilises the contrast and structure terms
WINDOW = 11  # px, side length
WINDOW_SIGMA = 1.5  # px

PAIRS_PER_BATCH = 64


def mean_pairwise(images: np.ndarray, seed: int, pairs: int) -> float:
    """Mean of `pair_similarities` over pairs from `draw_pairs`.

    Args:
        images: uint8 [n, s, s, 1], n >= 2; usually of one class.
        seed: as in `draw_pairs`.
        pairs: as in `draw_pairs`.

    Raises:
        TypeError, ValueError: images are not as stated.
    """
    first, second = draw_pairs(len(images), seed, pairs)
    return float(pair_similarities(images, first, second).mean())


def draw_pairs(n: int, seed: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices i, j (int64 [m] each) of m distinct random unordered pairs of n images.

    m is the smaller of `pairs` and n (n - 1) / 2; the same seed and n give the same
    pairs. Pairs are numbered by their cyclic offset d = 1, 2, ...: number n (d - 1) + i
    is the pair of i and (i + d) mod n. If n is even, the last offset, n / 2, has only
    n / 2 pairs.

    Raises:
        ValueError: n is below 2.
    """
    if n < 2:
        raise ValueError(f"there are {n} images; pairs need at least 2")
    count = n * (n - 1) // 2
    rng = np.random.default_rng(seed)
    number = rng.choice(count, min(pairs, count), replace=False)
    first = number % n
    return first, (first + 1 + number // n) % n


def pair_similarities(
    images: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """`ms_ssim` of images[first[i]] and images[second[i]]: float32 [m].

    Args:
        images: uint8 [n, s, s, 1]; compared at `scales_for(s)` scales.
        first: int [m], indices of images.
        second: int [m].

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1].
    """
    check_images(images)
    scales = scales_for(images.shape[1])
    values = []
    for block in blocks(len(first), PAIRS_PER_BATCH):
        # The last batch is padded by repetition, so that one shape is compiled.
        a, b = (
            images[np.resize(rows[block], PAIRS_PER_BATCH)].astype(np.float32) / 255
            for rows in (first, second)
        )
        values.append(np.asarray(ms_ssim(a, b, scales))[: len(first[block])])
    return np.concatenate(values)


def scales_for(size: int) -> int:
    """The most scales, 1 to 5, that leave 16 px at the coarsest; 3 for 64 px.

    Fewer where the image cannot be halved as often, such as 1 for 65 px.
    """
    scales = min(max(size.bit_length() - 4, 1), len(WEIGHTS))
    while size % 2 ** (scales - 1):
        scales -= 1
    return scales


@functools.partial(jax.jit, static_argnames="scales")
def ms_ssim(a: jax.Array, b: jax.Array, scales: int) -> jax.Array:
    """MS-SSIM of a[i] and b[i]: float32 [n, s, s, 1] in [0, 1] -> float32 [n].

    In [0, 1]: 1 for equal images, near 0 for unrelated ones. The image is halved from
    scale to scale. The result is the product over scales of the mean contrast-structure
    term over all windows; at the coarsest scale the term also contains the luminance
    (eq. 7 of Wang, Simoncelli & Bovik 2003). Each factor is averaged before its
    exponent is applied, and a negative average counts as 0. With fewer than five
    scales, the first weights are used, divided by their sum: values of different
    `scales` are not comparable.

    Args:
        a: images.
        b: as many images of the same size; a[i] is compared with b[i].
        scales: 1 to 5; s is divisible by 2^(scales - 1). With `scales_for(s)` the
            coarsest scale has at least 16 px. At scales smaller than the window of 11
            px, the window is as large as the image, and its sigma of 1.5 shrinks in
            proportion.
    """
    weights = np.array(WEIGHTS[:scales], np.float32)
    weights /= weights.sum()
    result = jnp.ones(len(a))
    for scale in range(scales):
        luminance, structure = _compare(a, b)
        coarsest = scale == scales - 1
        similarity = luminance * structure if coarsest else structure
        result *= jnp.maximum(similarity.mean((1, 2, 3)), 0) ** weights[scale]
        if not coarsest:
            a, b = resize(a, a.shape[1] // 2), resize(b, b.shape[1] // 2)
    return result


def _compare(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Luminance term, and contrast times structure, of all windows inside the image.

    Each is float32 [n, s - w + 1, s - w + 1, 1] for a window of w px. Wang, Simoncelli
    & Bovik 2003, eqs. 1 to 3 with C_3 = C_2 / 2 and a Gaussian window.
    """
    matrix = _window_matrix(a.shape[1])

    def blur(x: jax.Array) -> jax.Array:
        # Matrix products, because convolutions of one channel are slow on all devices.
        return jnp.einsum("ih,jw,nhwc->nijc", matrix, matrix, x, precision="highest")

    # Moments about the image's mean: moments about 0 are large and cancel.
    centre_a, centre_b = (x.mean((1, 2, 3), keepdims=True) for x in (a, b))
    a, b = a - centre_a, b - centre_b
    mean_a, mean_b = blur(a), blur(b)
    covariance = blur(a * b) - mean_a * mean_b
    variances = blur(a**2 + b**2) - mean_a**2 - mean_b**2
    structure = (2 * covariance + C2) / (variances + C2)
    mean_a, mean_b = mean_a + centre_a, mean_b + centre_b
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    luminance = (2 * product + C1) / (squares + C1)
    return luminance, structure


def _window_matrix(size: int) -> np.ndarray:
    """float32 [size - w + 1, size]: row i has the w window weights from column i on."""
    width = min(WINDOW, size)
    offset = np.arange(width) - (width - 1) / 2
    weights = np.exp(-0.5 * (offset / (WINDOW_SIGMA * width / WINDOW)) ** 2)
    matrix = linalg.convolution_matrix(weights / weights.sum(), size, mode="valid")
    return matrix.astype(np.float32)
