"""Diversity within a set of images, as the mean likeness of its pairs (MS-SSIM).

Odena et al. 2017, "Auxiliary Classifier GANs", section 4.2: a generator that draws one
image of a class again and again has a mean near 1; one as varied as the data has that
of the data. It says nothing of quality: noise is varied, too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Wang, Simoncelli & Bovik 2003, "Multi-scale structural similarity for image quality
# assessment", section 3.2: beta_1..5 = gamma_1..5 and alpha_5, from fine to coarse.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# Wang et al. 2004, "Image quality assessment", section III: K_1, K_2 and the window.
LUMINANCE_FLOOR = 0.01**2  # C_1 = (K_1 L)^2, for values from 0 to L = 1
CONTRAST_FLOOR = 0.03**2  # C_2
WINDOW = 11  # pixels
WINDOW_SD = 1.5  # pixels

PAIRS_AT_ONCE = 64


@functools.partial(jax.jit, static_argnames="scales")
def ms_ssim(a: jax.Array, b: jax.Array, scales: int = 3) -> jax.Array:
    """How alike images are: a, b float32 [n, s, s, 1] in [0, 1] -> float32 [n].

    1 for equal images, towards 0 for those with nothing in common. The product over
    scales, each half as fine as the one before, of the mean contrast and structure of
    all windows; at the coarsest times their luminance as well (eq. 7 of Wang,
    Simoncelli & Bovik 2003; the mean is taken before the power, and a negative one
    counts as 0). Fewer than five scales share the first weights of the five, divided
    by their sum: figures of different `scales` do not compare.

    Args:
        a: images.
        b: as many images of the same size; a[i] is compared with b[i].
        scales: 1 to 5. 2 suit 32 pixels, 3 suit 64, 4 suit 128 and 5 suit 256: the
            coarsest then has 16. At scales of fewer pixels than the window of 11, it
            is as large as the image, and its deviation of 1.5 shrinks in proportion.

    Raises:
        TypeError: if images are not float32.
        ValueError: if shapes are not as stated, or halving s (scales - 1) times leaves
            a remainder.
    """
    _check(a, b, scales)
    weights = np.array(WEIGHTS[:scales], np.float32)
    weights /= weights.sum()
    result = jnp.ones(len(a))
    for scale in range(scales):
        luminance, structure = _compare(a, b)
        coarsest = scale == scales - 1
        likeness = luminance * structure if coarsest else structure
        result *= jnp.maximum(likeness.mean((1, 2, 3)), 0) ** weights[scale]
        if not coarsest:
            a, b = _halve(a), _halve(b)
    return result


def scales_for(size: int) -> int:
    """As many scales as leave 16 pixels at the coarsest, 1 to 5: 3 for 64 pixels."""
    return min(max(size.bit_length() - 4, 1), len(WEIGHTS))


def mean_pairwise(
    images: jax.Array | np.ndarray, seed: int, pairs: int, scales: int = 3
) -> tuple[float, float]:
    """The mean `ms_ssim` of pairs within one set, and its standard error.

    The error is that of the images having been drawn, and of the pairs: residuals are
    summed over all pairs that share an image (Aronow, Samii & Assenova 2015,
    "Cluster-robust variance estimation for dyadic data", eq. 3), so more pairs of the
    same few images do not make it vanish.

    Args:
        images: float32 [n, s, s, 1] in [0, 1], n >= 2; of one class, as a rule.
        seed: which pairs; the same seed and n give the same.
        pairs: how many, at least 2; all there are, n (n - 1) / 2, where it exceeds
            them. No pair is taken twice, and no image is compared with itself.
        scales: as in `ms_ssim`.

    Raises:
        TypeError, ValueError: as `ms_ssim`; n or `pairs` is too small; a value is
            outside [0, 1] or not a number.
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
            _some(images, first[at : at + PAIRS_AT_ONCE], second[at:], scales)
            for at in range(0, len(first), PAIRS_AT_ONCE)
        ]
    )
    return float(values.mean()), _standard_error(values, first, second, n)


def draw_pairs(n: int, seed: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices i and j of `pairs` different pairs of n things, or of all there are.

    All pairs are numbered as rounds of a tournament: in round r = 1, 2, ... thing i
    meets thing i + r, modulo n; if n is even, the last round has n / 2 pairs.
    """
    count = n * (n - 1) // 2
    rng = np.random.default_rng(seed)
    number = rng.choice(count, min(pairs, count), replace=False)
    first = number % n
    return first, (first + 1 + number // n) % n


def _check(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray, scales: int) -> None:
    """What can be said of images without a look at their values."""
    if not 1 <= scales <= len(WEIGHTS):
        raise ValueError(f"scales={scales}; use 1 to {len(WEIGHTS)}")
    size = a.shape[1] if a.ndim == 4 else 0
    if a.shape != b.shape or not size or a.shape != (len(a), size, size, 1):
        raise ValueError(
            f"images are {list(a.shape)} and {list(b.shape)}; both must be [n, s, s, 1]"
        )
    if not a.dtype == b.dtype == np.float32:
        raise TypeError(
            f"images are {a.dtype} and {b.dtype}; use float32 from 0 to 1: divide "
            "uint8 images by 255"
        )
    if size % 2 ** (scales - 1):
        raise ValueError(
            f"scales={scales} halve images {scales - 1} times, and {size} pixels do "
            "not divide so often; use fewer scales"
        )


def _compare(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Luminance, and contrast times structure, in all windows that fit in an image.

    Wang, Simoncelli & Bovik 2003, eqs. 1 to 3 with C_3 = C_2 / 2, and sums weighted by
    a Gaussian window; each float32 [n, s - w + 1, s - w + 1, 1].
    """
    matrix = _window_matrix(a.shape[1])

    def blur(x: jax.Array) -> jax.Array:
        # A product of matrices: convolutions of one channel are slow everywhere.
        return jnp.einsum("ih,jw,nhwc->nijc", matrix, matrix, x, precision="highest")

    # Moments about the image's mean: about 0 they are large, and cancel.
    middle_a, middle_b = (x.mean((1, 2, 3), keepdims=True) for x in (a, b))
    a, b = a - middle_a, b - middle_b
    mean_a, mean_b = blur(a), blur(b)
    covariance = blur(a * b) - mean_a * mean_b
    variances = blur(a**2 + b**2) - mean_a**2 - mean_b**2
    structure = (2 * covariance + CONTRAST_FLOOR) / (variances + CONTRAST_FLOOR)
    mean_a, mean_b = mean_a + middle_a, mean_b + middle_b
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    luminance = (2 * product + LUMINANCE_FLOOR) / (squares + LUMINANCE_FLOOR)
    return luminance, structure


def _window_matrix(size: int) -> np.ndarray:
    """float32 [size - w + 1, size]: row i has the window's w weights from column i."""
    width = min(WINDOW, size)
    offset = np.arange(width) - (width - 1) / 2
    weights = np.exp(-0.5 * (offset / (WINDOW_SD * width / WINDOW)) ** 2)
    rows = np.arange(size - width + 1)[:, None]
    matrix = np.zeros((len(rows), size), np.float32)
    matrix[rows, rows + np.arange(width)] = weights / weights.sum()
    return matrix


def _halve(x: jax.Array) -> jax.Array:
    """[n, s, s, 1] -> [n, s/2, s/2, 1], means of 2 x 2 pixels."""
    n, size = x.shape[:2]
    return x.reshape(n, size // 2, 2, size // 2, 2, 1).mean((2, 4))


def _some(
    images: np.ndarray, first: np.ndarray, second: np.ndarray, scales: int
) -> np.ndarray:
    """`ms_ssim` of up to `PAIRS_AT_ONCE` pairs, in one program however many."""
    count = len(first)
    i = np.resize(first, PAIRS_AT_ONCE)
    j = np.resize(second[:count], PAIRS_AT_ONCE)
    return np.asarray(ms_ssim(images[i], images[j], scales))[:count]


def _standard_error(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, n: int
) -> float:
    """Of the mean of values [m] of pairs of n images; never below that of m numbers."""
    residual = values - values.mean(dtype=np.float64)
    squares = np.sum(residual**2)
    of_image = np.bincount(first, residual, n) + np.bincount(second, residual, n)
    shared = np.sum(of_image**2) - squares  # each pair squares twice, once per image
    return float(np.sqrt(max(shared, squares)) / len(values))
