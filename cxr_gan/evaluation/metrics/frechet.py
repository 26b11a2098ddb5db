"""Fréchet distance between two sets of features, each fitted by a Gaussian (FID)."""

import numpy as np

from cxr_gan.evaluation.metrics.batching import blocks

# Images of the smaller set per feature. With fewer, the covariance is mostly noise, and
# the distance depends more on the number of images than on the images.
LEAST_PER_FEATURE = 5

ROWS_PER_BLOCK = 4096


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)); at least 0.

    Features a float [n, d] and b float [m, d]. C is the covariance with divisor n - 1.
    All computations are in float64; the unit is that of the features squared.

    Let A and B be the centred rows divided by (n - 1)^(1/2) and (m - 1)^(1/2). Then
    C_a = A'A, C_b = B'B, and the trace of the square root is the sum of the singular
    values of A B'. A and B are replaced by the triangular factors of their QR
    decompositions. No covariance is formed or inverted, so the computation is also
    accurate with fewer images than features.

    The estimate is biased upward by about c / n, where c depends on the generator
    (Chong & Forsyth 2020, "Effectively unbiased FID and Inception Score and where to
    find them"): compare distances of equal n only, and use at least `LEAST_PER_FEATURE`
    images per feature.

    Raises:
        ValueError: if a set has fewer than 2 rows, d differs, or a value is not finite.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge
    to a local Nash equilibrium", eq. 6.
    """
    a, b = check_features(a, b, min_rows=2)
    mean_a, root_a = _mean_and_root(a)
    mean_b, root_b = _mean_and_root(b)
    mean_term = np.sum((mean_a - mean_b) ** 2)
    trace_of_root = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    covariance_term = np.sum(root_a**2) + np.sum(root_b**2) - 2 * trace_of_root
    # Rounding can make the covariance term slightly negative.
    return float(mean_term + max(covariance_term, 0))


def check_features(
    a: np.ndarray, b: np.ndarray, min_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as NumPy arrays [n, d] and [m, d], after checks.

    Raises:
        ValueError: if shapes are not [n, d] and [m, d] with d >= 1, a set has fewer
            than `min_rows` rows, or a value is not finite.
    """
    a, b = np.asarray(a), np.asarray(b)
    if not a.ndim == b.ndim == 2 or a.shape[1] != b.shape[1] or not a.shape[1]:
        raise ValueError(
            f"features have shapes {list(a.shape)} and {list(b.shape)}; must be [n, d] "
            "and [m, d] with the same d >= 1"
        )
    if min(len(a), len(b)) < min_rows:
        raise ValueError(
            f"the sets have {len(a)} and {len(b)} rows; give at least {min_rows} of "
            "each"
        )
    if not all(np.isfinite([x.min(), x.max()]).all() for x in (a, b)):
        raise ValueError("features are not all finite; look for NaN and inf in them")
    return a, b


def _mean_and_root(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [n, d] -> mean [d] and R [min(n, d), d] such that R'R is the covariance."""
    mean = x.mean(0, dtype=np.float64)
    root = np.zeros((0, x.shape[1]))
    for block in blocks(len(x), ROWS_PER_BLOCK):
        rows = np.concatenate([root, x[block] - mean])
        root = np.asarray(np.linalg.qr(rows, mode="r"))
    return mean, root / np.sqrt(len(x) - 1)
