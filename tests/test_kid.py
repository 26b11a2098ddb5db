import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from cxr_gan.evaluation.metrics import kid
from cxr_gan.evaluation.metrics.kid import mmd2


def features(n, seed, shift=0.0, d=4):
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def test_mmd2_agrees_with_the_kernel_of_scikit_learn():
    a, b = features(30, 1), features(40, 2, 0.5)
    kernel_a, kernel_b, cross = (
        polynomial_kernel(x, y, degree=3, gamma=1 / 4, coef0=1)
        for x, y in ((a, a), (b, b), (a, b))
    )
    pairs_a, pairs_b = (k[~np.eye(len(k), dtype=bool)] for k in (kernel_a, kernel_b))
    expected = pairs_a.mean() + pairs_b.mean() - 2 * cross.mean()
    assert mmd2(a, b) == pytest.approx(expected, rel=1e-10)


def test_mmd2_does_not_depend_on_block_size_or_order(monkeypatch):
    a, b = features(30, 1).astype(np.float32), features(41, 2, 0.5).astype(np.float32)
    expected = mmd2(a, b)
    monkeypatch.setattr(kid, "ROWS_PER_BLOCK", 7)
    assert mmd2(a, b) == pytest.approx(expected, rel=1e-10)
    assert mmd2(b[::-1], a[::-1]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n", [3, 30])
def test_mmd2_is_unbiased_for_small_sets(n):
    values = [mmd2(features(n, 2 * i), features(n, 2 * i + 1)) for i in range(400)]
    error = np.std(values) / 20
    assert abs(np.mean(values)) < 3 * error
    assert 0.25 < np.mean(np.less(values, 0)) < 0.75


def test_non_finite_features_are_refused():
    with pytest.raises(ValueError, match="not all finite"):
        mmd2(features(5, 1), np.full((5, 4), np.nan))
