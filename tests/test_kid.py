import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from cxr_gan.evaluation.metrics import kid as module
from cxr_gan.evaluation.metrics.kid import kid, mmd2


def features(n, seed, shift=0.0, d=4):
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def test_mmd2_of_two_points_each_agrees_with_hand_calculation():
    # (xy + 1)^3: within a 1, within b 343; between a and b 1, 1, 27 and 64.
    a, b = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    assert mmd2(a, b) == pytest.approx(1 + 343 - 2 * 93 / 4, rel=1e-12)


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
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 7)
    assert mmd2(a, b) == pytest.approx(expected, rel=1e-10)
    assert mmd2(b[::-1], a[::-1]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n", [3, 30])
def test_mmd2_is_unbiased_for_small_sets(n):
    values = [mmd2(features(n, 2 * i), features(n, 2 * i + 1)) for i in range(400)]
    error = np.std(values) / 20
    assert abs(np.mean(values)) < 3 * error
    assert 0.25 < np.mean(np.less(values, 0)) < 0.75


def test_kid_of_two_halves_of_one_set_is_0_within_the_standard_error():
    x = features(2000, 0)
    mean, error = kid(x[:1000], x[1000:], subsets=20, size=50, seed=0)
    assert abs(mean) < 2.5 * error


def test_mean_over_subsets_agrees_with_mmd2_of_all_rows():
    a, b = features(2000, 1), features(2000, 2, 0.5)
    mean, error = kid(a, b, subsets=40, size=50, seed=0)
    assert mean > 10 * error
    assert abs(mean - mmd2(a, b)) < 3 * error


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_standard_error_is_the_standard_deviation_over_independent_sets(shift):
    results = [
        kid(features(60, 2 * i), features(80, 2 * i + 1, shift), **sizes(i))
        for i in range(300)
    ]
    means, errors = np.transpose(results)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(means.std(), rel=0.2)


def sizes(seed):
    return {"subsets": 6, "size": 10, "seed": seed}


def test_seed_determines_the_subsets():
    a, b = features(100, 1), features(100, 2)
    assert kid(a, b, **sizes(3)) == kid(a, b, **sizes(3))
    assert kid(a, b, **sizes(3)) != kid(a, b, **sizes(4))


def test_subsets_are_disjoint(monkeypatch):
    subsets = []
    monkeypatch.setattr(module, "mmd2", lambda a, b: subsets.append((a, b)) or 0.0)
    kid(np.arange(65.0)[:, None], np.arange(70.0)[:, None], **sizes(0))
    for rows in zip(*subsets, strict=True):
        assert [len(x) for x in rows] == [10] * 6
        assert len(np.unique(rows)) == 60


@pytest.mark.parametrize(
    ("n", "changes", "message"),
    [
        (59, {}, "need 60 rows; there are 59: use at most 5 subsets or 9 rows"),
        (99, {"subsets": 1}, "1 subsets of 10 rows; give at least 2"),
        (99, {"size": 1}, "6 subsets of 1 rows; give at least 2"),
        (1, {}, "1 and 80 rows; give at least 2"),
    ],
)
def test_invalid_subsets_are_refused(n, changes, message):
    with pytest.raises(ValueError, match=message):
        kid(features(n, 1), features(80, 2), **{**sizes(0), **changes})


def test_non_finite_features_are_refused():
    with pytest.raises(ValueError, match="not all finite"):
        mmd2(features(5, 1), np.full((5, 4), np.nan))
