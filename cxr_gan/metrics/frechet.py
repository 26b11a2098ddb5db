"""How far apart two sets of features are, each seen as a Gaussian (FID)."""

import numpy as np

# Fewer images than this for each feature, and the covariance is mostly noise: the
# distance then says more of the number of images than of the images.
LEAST_PER_FEATURE = 5

ROWS_AT_ONCE = 4096


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)); at least 0.

    Features a float [n, d] and b float [m, d]; C is the covariance divided by n - 1,
    all is computed in float64, and the unit is that of the features squared. With
    centred rows A, B divided by (n - 1)^(1/2), (m - 1)^(1/2), C_a = A'A and C_b = B'B,
    and the trace of the root is the sum of the singular values of A B'. A and B enter
    as the triangles of their QR decompositions, so no covariance is ever formed or
    inverted, and fewer images than features are no trouble to the arithmetic.

    Biased upward by about c / n, with a c that depends on the generator (Chong &
    Forsyth 2020, "Effectively unbiased FID and Inception Score and where to find
    them"): only figures of equal n compare, and of `enough` images.

    Raises:
        ValueError: if a set has fewer than 2 rows, d differs, or a value is not finite.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge
    to a local Nash equilibrium", eq. 6.
    """
    a, b = check_features(a, b, least=2)
    mean_a, root_a = _mean_and_root(a)
    mean_b, root_b = _mean_and_root(b)
    means = np.sum((mean_a - mean_b) ** 2)
    shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    spread = np.sum(root_a**2) + np.sum(root_b**2) - 2 * shared
    return float(means + max(spread, 0))  # rounding can take it below 0


def enough(n: int, d: int) -> bool:
    """Whether n images, of the smaller set, suffice for a distance in d features."""
    return n >= LEAST_PER_FEATURE * d


def check_features(
    a: np.ndarray, b: np.ndarray, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both as NumPy arrays, if they are finite [n, d] and [m, d] of `least` rows each.

    Raises:
        ValueError: if they are not.
    """
    a, b = np.asarray(a), np.asarray(b)
    if not a.ndim == b.ndim == 2 or a.shape[1] != b.shape[1] or not a.shape[1]:
        raise ValueError(
            f"features are {list(a.shape)} and {list(b.shape)}; must be [n, d] and "
            "[m, d], d the same and at least 1"
        )
    if min(len(a), len(b)) < least:
        raise ValueError(f"{len(a)} and {len(b)} rows; give at least {least} of each")
    if not all(np.isfinite([x.min(), x.max()]).all() for x in (a, b)):
        raise ValueError("features are not all finite; look for nan and inf in them")
    return a, b


def _mean_and_root(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [n, d] -> mean [d] and R [min(n, d), d] such that R'R is the covariance."""
    mean = x.mean(0, dtype=np.float64)
    root = np.zeros((0, x.shape[1]))
    for at in range(0, len(x), ROWS_AT_ONCE):
        rows = np.concatenate([root, x[at : at + ROWS_AT_ONCE] - mean])
        root = np.asarray(np.linalg.qr(rows, mode="r"))
    return mean, root / np.sqrt(len(x) - 1)
