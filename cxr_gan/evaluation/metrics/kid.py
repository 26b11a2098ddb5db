"""Kernel distance between two sets of features, unbiased for any set size (KID)."""

import numpy as np

from cxr_gan.evaluation.metrics.batching import blocks
from cxr_gan.evaluation.metrics.frechet import check_features

ROWS_PER_BLOCK = 1024


def mmd2(a: np.ndarray, b: np.ndarray) -> float:
    """Squared maximum mean discrepancy of a float [n, d] and b float [m, d].

    Kernel (x.y / d + 1)^3, in float64. The estimator is unbiased: for two samples of
    one distribution its expectation is 0, and it is negative about half of the time.

    Raises:
        ValueError: if a set has fewer than 2 rows, d differs, or a value is not finite.

    Source: Gretton et al. 2012, "A kernel two-sample test", eq. 3; the kernel is that
    of Binkowski et al. 2018, "Demystifying MMD GANs", section 4.
    """
    a, b = check_features(a, b, min_rows=2)
    n, m = len(a), len(b)
    within_a = (_kernel_sum(a, a) - _kernel_diagonal(a)) / (n * (n - 1))
    within_b = (_kernel_sum(b, b) - _kernel_diagonal(b)) / (m * (m - 1))
    return float(within_a + within_b - 2 * _kernel_sum(a, b) / (n * m))


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of the kernel over all pairs of a row of a and a row of b, block by block."""
    total = 0.0
    for rows in blocks(len(a), ROWS_PER_BLOCK):
        for columns in blocks(len(b), ROWS_PER_BLOCK):
            x, y = a[rows].astype(np.float64), b[columns].astype(np.float64)
            total += np.sum((x @ y.T / a.shape[1] + 1) ** 3)
    return total


def _kernel_diagonal(x: np.ndarray) -> float:
    """Sum of the kernel over the pairs of a row with itself."""
    squares = np.einsum("nd,nd->n", x, x, dtype=np.float64)
    return float(np.sum((squares / x.shape[1] + 1) ** 3))
