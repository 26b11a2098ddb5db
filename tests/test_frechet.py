import numpy as np
import pytest
import scipy.linalg

from cxr_gan.metrics import frechet
from cxr_gan.metrics.frechet import frechet_distance


def features(n, d, seed=0):
    """Correlated features, float32 [n, d], of mean about 1."""
    rng = np.random.default_rng(seed)
    x = 1 + rng.standard_normal((n, d)) @ rng.uniform(-1, 1, (d, d))
    return x.astype(np.float32)


def test_distance_of_lines_of_numbers_is_that_of_means_and_deviations():
    # Means 1 and 12, variances 2 and 8 (ddof=1): 11^2 + (8^(1/2) - 2^(1/2))^2.
    a, b = np.array([[0.0], [2.0]]), np.array([[10.0], [14.0]])
    assert frechet_distance(a, b) == pytest.approx(121 + 2, rel=1e-12)


def test_uncorrelated_features_add_up():
    # Points of a cross with arms p and q: variances 2 p^2 / 3, 2 q^2 / 3, covariance 0.
    def cross(p, q):
        return np.array([[p, 0], [-p, 0], [0, q], [0, -q]], np.float64)

    a, b = cross(3, 1), cross(1, 5) + np.array([2, 0])
    expected = 4 + 2 / 3 * ((3 - 1) ** 2 + (5 - 1) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 20), (60, 5000, 40)])
def test_distance_agrees_with_the_matrix_square_root_of_scipy(n, m, d):
    a, b = features(n, d, 1), 1.5 * features(m, d, 2)
    means = np.sum((a.mean(0, np.float64) - b.mean(0, np.float64)) ** 2)
    of_a, of_b = (np.cov(x.astype(np.float64), rowvar=False) for x in (a, b))
    root = scipy.linalg.sqrtm(of_a @ of_b).real
    expected = means + np.trace(of_a + of_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n", [3, 20, 500])
def test_a_set_moved_by_a_vector_is_its_squared_length_away(n):
    # Fewer images than the 30 features as well, where covariances have no inverse.
    a = features(n, 30).astype(np.float64)
    step = np.linspace(0, 1, 30)
    assert frechet_distance(a, a + step) == pytest.approx(step @ step, rel=1e-10)


def test_a_set_is_at_no_distance_from_itself():
    a = features(50, 30)
    assert 0 <= frechet_distance(a, a) < 1e-9


def test_neither_order_of_sets_nor_of_rows_matters():
    a, b = features(80, 12, 1), features(90, 12, 2)
    distance = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(a[::-1], b) == pytest.approx(distance, rel=1e-10)


def test_number_of_rows_at_once_does_not_matter(monkeypatch):
    a, b = features(80, 12, 1), features(90, 12, 2)
    distance = frechet_distance(a, b)
    monkeypatch.setattr(frechet, "ROWS_AT_ONCE", 7)
    assert frechet_distance(a, b) == pytest.approx(distance, rel=1e-10)


def test_few_images_make_the_distance_too_large():
    a, b = features(4000, 20), features(4000, 20)[::-1]
    few, many = frechet_distance(a[:25], b[:25]), frechet_distance(a[:2000], b[:2000])
    assert few > 5 * many


def test_five_images_for_each_feature_are_enough():
    assert frechet.enough(320, 64)
    assert not frechet.enough(319, 64)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "1 and 5 rows; give at least 2"),
        (
            np.zeros((5, 3)),
            np.zeros((5, 4)),
            r"\[5, 3\] and \[5, 4\]; must be \[n, d\]",
        ),
        (np.zeros((5, 0)), np.zeros((5, 0)), "d the same and at least 1"),
        (np.zeros(5), np.zeros((5, 1)), r"must be \[n, d\]"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "not all finite"),
        (np.zeros((5, 3)), np.full((5, 3), -np.inf), "not all finite"),
    ],
)
def test_what_has_no_distance_is_refused(a, b, words):
    with pytest.raises(ValueError, match=words):
        frechet_distance(a, b)
