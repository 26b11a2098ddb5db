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


@functools.partial(jax.jit, static_argnames="scales")
def ms_ssim(a: jax.Array, b: jax.Array, scales: int = 3) -> jax.Array:
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
        scales: 1 to 5. Use 2 for 32 px, 3 for 64, 4 for 128 and 5 for 256 (see
            `scales_for`): the coarsest scale then has 16 px. At scales smaller than the
            window of 11 px, the window is as large as the image, and its sigma of 1.5
            shrinks in proportion.

    Raises:
        TypeError: if images are not float32.
        ValueError: if shapes are not as stated, `scales` is not 1 to 5, or s is not
            divisible by 2^(scales - 1).
    """
    _check(a, b, scales)
    weights = np.array(WEIGHTS[:scales], np.float32)
    weights /= weights.sum()
    result = jnp.ones(len(a))
    for scale in range(scales):
        luminance, structure = _compare(a, b)
        coarsest = scale == scales - 1
        similarity = luminance * structure if coarsest else structure
        result *= jnp.maximum(similarity.mean((1, 2, 3)), 0) ** weights[scale]
        if not coarsest:
            a, b = _halve(a), _halve(b)
    return result


def scales_for(size: int) -> int:
    """The most scales, 1 to 5, that leave 16 px at the coarsest; 3 for 64 px."""
    return min(max(size.bit_length() - 4, 1), len(WEIGHTS))


def mean_pairwise(
    images: jax.Array | np.ndarray, seed: int, pairs: int, scales: int = 3
) -> tuple[float, float]:
    """Mean `ms_ssim` of random pairs of one set, and its standard error.

    The standard error covers the sampling of the images and of the pairs. It sums
    residuals over all pairs that share an image (Aronow, Samii & Assenova 2015,
    "Cluster-robust variance estimation for dyadic data", eq. 3), so it does not tend to
    0 when more pairs of the same images are drawn.

    Args:
        images: float32 [n, s, s, 1] in [0, 1], n >= 2; usually of one class.
        seed: determines the pairs; the same seed and n give the same pairs.
        pairs: number of pairs, at least 2; capped at n (n - 1) / 2, the number of all
            pairs. No pair is drawn twice, and no image is compared with itself.
        scales: as in `ms_ssim`.

    Raises:
        TypeError, ValueError: as `ms_ssim`; n or `pairs` is too small; a value is NaN
            or outside [0, 1].
    """
    images = np.asarray(images)
    _check(images, images, scales)
    n = len(images)
    if n < 2 or pairs < 2:
        raise ValueError(f"{pairs} pairs of {n} images: give at least 2 of each")
    if not (images.min() >= 0 and images.max() <= 1):  # also for NaN
        raise ValueError(
            f"values are from {images.min()} to {images.max()}; must be from 0 to 1: "
            "divide uint8 images by 255"
        )
    first, second = draw_pairs(n, seed, pairs)
    values = np.concatenate(
        [
            _one_batch(
                images,
                first[start : start + PAIRS_PER_BATCH],
                second[start : start + PAIRS_PER_BATCH],
                scales,
            )
            for start in range(0, len(first), PAIRS_PER_BATCH)
        ]
    )
    return float(values.mean()), _standard_error(values, first, second, n)


def draw_pairs(n: int, seed: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices i, j (int64 [m] each) of m distinct random unordered pairs of n images.

    m is the smaller of `pairs` and n (n - 1) / 2. Pairs are numbered by their cyclic
    offset d = 1, 2, ...: number n (d - 1) + i is the pair of i and (i + d) mod n. If n
    is even, the last offset, n / 2, has only n / 2 pairs.
    """
    count = n * (n - 1) // 2
    rng = np.random.default_rng(seed)
    number = rng.choice(count, min(pairs, count), replace=False)
    first = number % n
    return first, (first + 1 + number // n) % n


def _check(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray, scales: int) -> None:
    """Checks shapes, dtypes and `scales`, not values: also runs under jit."""
    if not 1 <= scales <= len(WEIGHTS):
        raise ValueError(f"scales={scales}; use 1 to {len(WEIGHTS)}")
    size = a.shape[1] if a.ndim == 4 else 0
    if a.shape != b.shape or not size or a.shape != (len(a), size, size, 1):
        raise ValueError(
            f"images have shapes {list(a.shape)} and {list(b.shape)}; both must be the "
            "same [n, s, s, 1]"
        )
    if not a.dtype == b.dtype == np.float32:
        raise TypeError(
            f"images are {a.dtype} and {b.dtype}; use float32 from 0 to 1: divide "
            "uint8 images by 255"
        )
    if size % 2 ** (scales - 1):
        raise ValueError(
            f"scales={scales} halves images {scales - 1} times, but {size} px is not "
            f"divisible by {2 ** (scales - 1)}; use fewer scales"
        )


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
    rows = np.arange(size - width + 1)[:, None]
    matrix = np.zeros((len(rows), size), np.float32)
    matrix[rows, rows + np.arange(width)] = weights / weights.sum()
    return matrix


def _halve(x: jax.Array) -> jax.Array:
    """Mean pooling of 2 x 2 pixels: [n, s, s, 1] -> [n, s/2, s/2, 1]."""
    n, size = x.shape[:2]
    return x.reshape(n, size // 2, 2, size // 2, 2, 1).mean((2, 4))


def _one_batch(
    images: np.ndarray, first: np.ndarray, second: np.ndarray, scales: int
) -> np.ndarray:
    """`ms_ssim` of up to `PAIRS_PER_BATCH` pairs, padded so that it compiles once."""
    i, j = (np.resize(rows, PAIRS_PER_BATCH) for rows in (first, second))
    return np.asarray(ms_ssim(images[i], images[j], scales))[: len(first)]


def _standard_error(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, n: int
) -> float:
    """Standard error of the mean of values [m] of pairs of n images.

    At least the standard error of m independent values.
    """
    residual = values - values.mean(dtype=np.float64)
    squares = np.sum(residual**2)
    per_image = np.bincount(first, residual, n) + np.bincount(second, residual, n)
    # The square of each pair's residual occurs twice in the sum, once per image.
    shared = np.sum(per_image**2) - squares
    return float(np.sqrt(max(shared, squares)) / len(values))
