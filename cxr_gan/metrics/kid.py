"""How far apart two sets of features are, without bias from their number (KID)."""

import numpy as np

from cxr_gan.metrics.frechet import check_features

ROWS_AT_ONCE = 1024


def kid(
    a: np.ndarray, b: np.ndarray, *, subsets: int, size: int, seed: int
) -> tuple[float, float]:
    """The mean `mmd2` of several subsets, and its standard error.

    Subset i of a is compared with subset i of b, and no row is in two subsets. Their
    values are therefore independent, and the error is their standard deviation
    (ddof=1) divided by `subsets`^(1/2). Binkowski et al. draw overlapping subsets; the
    same formula then shrinks to nothing as more are drawn of the same few images.
    Disjoint ones give a mean of larger variance than `mmd2` of everything, but an
    error that is true of it (Zaremba, Gretton & Blaschko 2013, "B-test: a
    non-parametric, low variance kernel two-sample test"). It is that of rows drawn
    independently: where a patient has several images, see `intervals.subsample`.

    Args:
        a: float [n, d].
        b: float [m, d].
        subsets: how many, at least 2; the error of few is itself uncertain.
        size: rows of each in either set, at least 2; it changes the variance of the
            mean, not what it estimates.
        seed: which rows go where; the same seed and sets give the same.

    Raises:
        ValueError: as `mmd2`; `subsets` or `size` is too small; n or m is below their
            product.

    Source: Binkowski et al. 2018, "Demystifying MMD GANs", section 4.
    """
    a, b = check_features(a, b, least=2)
    if subsets < 2 or size < 2:
        raise ValueError(f"{subsets} subsets of {size} rows; give at least 2 of each")
    rows = min(len(a), len(b))
    if subsets * size > rows:
        raise ValueError(
            f"{subsets} subsets of {size} share no rows and need {subsets * size}; "
            f"there are {rows}: use at most {rows // size} subsets or {rows // subsets}"
            " rows"
        )
    rng = np.random.default_rng(seed)
    of_a, of_b = (
        rng.permutation(len(x))[: subsets * size].reshape(subsets, size) for x in (a, b)
    )
    values = [mmd2(a[i], b[j]) for i, j in zip(of_a, of_b, strict=True)]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(subsets))


def mmd2(a: np.ndarray, b: np.ndarray) -> float:
    """The squared maximum mean discrepancy of a float [n, d] and b float [m, d].

    Of the kernel (x.y / d + 1)^3, in float64. Unbiased, so 0 on average for two sets of
    one distribution, and below 0 about as often as above.

    Raises:
        ValueError: if a set has fewer than 2 rows, d differs, or a value is not finite.

    Source: Gretton et al. 2012, "A kernel two-sample test", eq. 3; the kernel is of
    Binkowski et al. 2018, "Demystifying MMD GANs", section 4.
    """
    a, b = check_features(a, b, least=2)
    n, m = len(a), len(b)
    within_a = (_kernel_sum(a, a) - _kernel_diagonal(a)) / (n * (n - 1))
    within_b = (_kernel_sum(b, b) - _kernel_diagonal(b)) / (m * (m - 1))
    return float(within_a + within_b - 2 * _kernel_sum(a, b) / (n * m))


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    """Of all pairs of a row of a and a row of b, in blocks."""
    total = 0.0
    for i in range(0, len(a), ROWS_AT_ONCE):
        rows = a[i : i + ROWS_AT_ONCE].astype(np.float64)
        for j in range(0, len(b), ROWS_AT_ONCE):
            columns = b[j : j + ROWS_AT_ONCE].astype(np.float64)
            total += np.sum((rows @ columns.T / a.shape[1] + 1) ** 3)
    return total


def _kernel_diagonal(x: np.ndarray) -> float:
    """The sum over the pairs of a row with itself."""
    squares = np.einsum("nd,nd->n", x, x, dtype=np.float64)
    return float(np.sum((squares / x.shape[1] + 1) ** 3))
