import numpy as np
import pytest
import scipy.linalg

from cxr_gan.evaluation.metrics import frechet
from cxr_gan.evaluation.metrics.frechet import frechet_distance


def features(n, d, seed=0):
    """Correlated features, float32 [n, d], of mean about 1."""
    rng = np.random.default_rng(seed)
    x = 1 + rng.standard_normal((n, d)) @ rng.uniform(-1, 1, (d, d))
    return x.astype(np.float32)


def test_distance_of_scalars_is_that_of_means_and_standard_deviations():
    # Means 1 and 12, variances 2 and 8 (ddof=1): 11^2 + (8^(1/2) - 2^(1/2))^2.
    a, b = np.array([[0.0], [2.0]]), np.array([[10.0], [14.0]])
    assert frechet_distance(a, b) == pytest.approx(121 + 2, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 20), (60, 5000, 40)])
def test_distance_agrees_with_scipy_matrix_square_root(n, m, d):
    a, b = features(n, d, 1), 1.5 * features(m, d, 2)
    mean_term = np.sum((a.mean(0, np.float64) - b.mean(0, np.float64)) ** 2)
    cov_a, cov_b = (np.cov(x.astype(np.float64), rowvar=False) for x in (a, b))
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = mean_term + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n", [3, 20, 500])
def test_distance_of_a_translated_set_is_the_squared_translation(n):
    # n = 3 and 20 are fewer than the 30 features: their covariances are singular.
    a = features(n, 30).astype(np.float64)
    shift = np.linspace(0, 1, 30)
    assert frechet_distance(a, a + shift) == pytest.approx(shift @ shift, rel=1e-10)
    assert 0 <= frechet_distance(a, a) < 1e-9


def test_distance_does_not_depend_on_order_or_block_size(monkeypatch):
    a, b = features(80, 12, 1), features(90, 12, 2)
    distance = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(a[::-1], b) == pytest.approx(distance, rel=1e-10)
    monkeypatch.setattr(frechet, "ROWS_PER_BLOCK", 7)
    assert frechet_distance(a, b) == pytest.approx(distance, rel=1e-10)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "1 and 5 rows; give at least 2"),
        (np.zeros((5, 3)), np.zeros((5, 4)), r"\[5, 3\] and \[5, 4\]; must be \[n"),
        (np.zeros((5, 0)), np.zeros((5, 0)), "the same d >= 1"),
        (np.zeros(5), np.zeros((5, 1)), r"must be \[n, d\]"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "not all finite"),
        (np.zeros((5, 3)), np.full((5, 3), -np.inf), "not all finite"),
    ],
)
def test_invalid_features_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)
