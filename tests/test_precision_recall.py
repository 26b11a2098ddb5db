import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from cxr_gan.evaluation.metrics import precision_recall
from cxr_gan.evaluation.metrics.precision_recall import Prdc, prdc

# On a line, k = 1. Radii of real balls are 1, 1, 2, 1, 1; of generated ones 5, 5, 1, 1.
REAL = np.array([[0], [1], [3], [10], [11]], np.float32)
GENERATED = np.array([[0.5], [5.5], [30], [31]], np.float32)


def cloud(n, seed, shift=0.0):
    return np.random.default_rng(seed).standard_normal((n, 3)) + shift


def test_prdc_of_points_on_a_line_agrees_with_hand_calculation():
    # Precision 1 of 4, density 2 balls of 4, coverage 2 of 5: generated 0.5 is inside
    # the balls of 0 and 1; no other generated point is inside any.
    # Recall 4 of 5: 0, 1, 3 and 10 are inside the ball of 0.5 or 5.5; 11 is in none.
    assert prdc(GENERATED, REAL, k=1) == Prdc(1 / 4, 4 / 5, 2 / 4, 2 / 5)


def test_point_on_the_surface_of_a_ball_is_inside():
    # Real balls have radius 2; the generated 6 is on the surface of the ball of 4.
    real, generated = np.array([[2.0], [4.0]]), np.array([[6.0], [100.0]])
    assert prdc(generated, real, k=1).precision == 1 / 2
    assert prdc(1.000001 * generated, real, k=1).precision == 0


def test_a_set_compared_with_itself_and_with_a_distant_one():
    # Each ball contains its centre and k neighbours: density (k + 1) / k. Coordinates
    # near 30 make squared distances round.
    x = cloud(200, 0, shift=30)
    assert prdc(x, x, k=4) == Prdc(1, 1, 5 / 4, 1)
    assert prdc(x, x + 99, k=4) == Prdc(0, 0, 0, 0)


def test_density_and_coverage_of_one_distribution_agree_with_their_expectation():
    # Naeem et al. 2020, eq. 8 and below: density 1, coverage 1 - 2^-k for n = m.
    result = prdc(cloud(1500, 1), cloud(1500, 2), k=5)
    assert result.density == pytest.approx(1, abs=0.05)
    assert result.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_prdc_agrees_with_the_neighbours_of_scikit_learn():
    generated, real, k = cloud(120, 1, 0.7), cloud(150, 2), 5
    distance = np.linalg.norm(generated[:, None] - real, axis=2)
    radius_g, radius_r = (
        NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1]
        for x in (generated, real)
    )
    inside = distance <= radius_r
    assert prdc(generated, real) == Prdc(
        inside.any(1).mean(),
        (distance <= radius_g[:, None]).any(0).mean(),
        inside.sum() / k / 120,
        inside.any(0).mean(),
    )


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_prdc_does_not_depend_on_block_size_or_order(monkeypatch, rows):
    generated, real = cloud(90, 1, 0.5).astype(np.float32), cloud(80, 2)
    expected = prdc(generated, real)
    monkeypatch.setattr(precision_recall, "ROWS_PER_BLOCK", rows)
    assert prdc(generated, real) == expected
    assert prdc(generated[::-1], real[::-1]) == expected


@pytest.mark.parametrize(
    ("n", "k", "value", "message"),
    [
        (5, 5, 0.0, "5 and 9 rows; give at least 6"),
        (9, 0, 0.0, "k=0; must be at least 1"),
        (9, 5, np.inf, "not all finite"),
    ],
)
def test_invalid_arguments_are_refused(n, k, value, message):
    with pytest.raises(ValueError, match=message):
        prdc(cloud(n, 1), cloud(9, 2) + value, k=k)
