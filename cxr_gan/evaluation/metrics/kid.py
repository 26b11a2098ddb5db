"""Kernel distance between two sets of features, unbiased for any set size (KID)."""

import numpy as np

from cxr_gan.evaluation.metrics.frechet import check_features

ROWS_PER_BLOCK = 1024


def kid(
    a: np.ndarray, b: np.ndarray, *, subsets: int, size: int, seed: int
) -> tuple[float, float]:
    """Mean of `mmd2` over disjoint subsets, and its standard error.

    Subset i of a is compared with subset i of b, and no row is in two subsets. The
    values are therefore independent, and the standard error is their standard deviation
    (ddof=1) divided by `subsets`^(1/2). Binkowski et al. draw overlapping subsets; with
    those, the same formula tends to 0 as more subsets are drawn from the same images.
    Disjoint subsets give a mean with a larger variance than `mmd2` of all rows, but a
    correct standard error (Zaremba, Gretton & Blaschko 2013, "B-test: a non-parametric,
    low variance kernel two-sample test"). The standard error assumes independent rows:
    where a patient has several images, use `confidence_intervals.subsample`.

    Args:
        a: float [n, d].
        b: float [m, d].
        subsets: number of subsets, at least 2; with few, the standard error is itself
            uncertain.
        size: rows of a subset in each set, at least 2; it changes the variance of the
            mean, not its expectation.
        seed: determines the assignment of rows to subsets.

    Raises:
        ValueError: as `mmd2`; `subsets` or `size` is too small; n or m is below their
            product.

    Source: Binkowski et al. 2018, "Demystifying MMD GANs", section 4.
    """
    a, b = check_features(a, b, min_rows=2)
    if subsets < 2 or size < 2:
        raise ValueError(f"{subsets} subsets of {size} rows; give at least 2 of each")
    rows = min(len(a), len(b))
    if subsets * size > rows:
        raise ValueError(
            f"{subsets} disjoint subsets of {size} rows need {subsets * size} rows; "
            f"there are {rows}: use at most {rows // size} subsets or {rows // subsets}"
            " rows"
        )
    rng = np.random.default_rng(seed)
    rows_a, rows_b = (
        rng.permutation(len(x))[: subsets * size].reshape(subsets, size) for x in (a, b)
    )
    values = [mmd2(a[i], b[j]) for i, j in zip(rows_a, rows_b, strict=True)]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(subsets))


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
    for i in range(0, len(a), ROWS_PER_BLOCK):
        rows = a[i : i + ROWS_PER_BLOCK].astype(np.float64)
        for j in range(0, len(b), ROWS_PER_BLOCK):
            columns = b[j : j + ROWS_PER_BLOCK].astype(np.float64)
            total += np.sum((rows @ columns.T / a.shape[1] + 1) ** 3)
    return total


def _kernel_diagonal(x: np.ndarray) -> float:
    """Sum of the kernel over the pairs of a row with itself."""
    squares = np.einsum("nd,nd->n", x, x, dtype=np.float64)
    return float(np.sum((squares / x.shape[1] + 1) ** 3))
