import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from cxr_gan.metrics.prdc import Prdc, prdc, squared_distances

# On a line, k = 1. Real balls reach 1, 1, 2, 1, 1; generated ones 5, 5, 1, 1.
REAL = np.array([[0], [1], [3], [10], [11]], np.float32)
GENERATED = np.array([[0.5], [5.5], [30], [31]], np.float32)


def cloud(n, seed, shift=0.0):
    return np.random.default_rng(seed).standard_normal((n, 3)) + shift


def test_points_on_a_line_by_hand():
    # 0.5 is in the balls of 0 and 1, no other is in any: 1 of 4; 2 balls of 4; 2 of 5.
    # 0, 1, 3 and 10 are in the ball of 0.5 or 5.5, and 11 is in none: 4 of 5.
    assert prdc(GENERATED, REAL, k=1) == Prdc(1 / 4, 4 / 5, 2 / 4, 2 / 5)


def test_sets_exchanged_exchange_precision_and_recall():
    there, back = prdc(GENERATED, REAL, k=1), prdc(REAL, GENERATED, k=1)
    assert (there.precision, there.recall) == (back.recall, back.precision)


def test_what_is_on_the_surface_of_a_ball_is_in_it():
    # Real balls reach 2; 6 is 2 from 4, and 4 + 2 from nothing else.
    real, generated = np.array([[2.0], [4.0]]), np.array([[6.0], [100.0]])
    assert prdc(generated, real, k=1).precision == 1 / 2
    assert prdc(1.000001 * generated, real, k=1).precision == 0


def test_a_set_and_itself():
    # In each ball are its centre and the k nearest: k + 1 over k, rounding or not.
    x = cloud(200, 0, shift=30)
    assert prdc(x, x, k=4) == Prdc(1, 1, 5 / 4, 1)


def test_sets_apart_have_nothing_in_common():
    assert prdc(cloud(50, 1), cloud(60, 2, shift=99)) == Prdc(0, 0, 0, 0)


def test_one_image_again_and_again_is_precise_but_covers_little():
    real = cloud(200, 0)
    found = prdc(np.repeat(real[:1], 100, 0), real)
    assert found.precision == 1
    assert found.recall == 1 / 200
    assert found.coverage < 0.1


def test_sets_of_one_distribution_have_density_and_coverage_near_their_best():
    # Naeem et al. 2020, eq. 8 and below: density 1, coverage 1 - 2^-k for n = m.
    found = prdc(cloud(1500, 1), cloud(1500, 2), k=5)
    assert found.density == pytest.approx(1, abs=0.05)
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_figures_agree_with_the_neighbours_of_scikit_learn():
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


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_neither_chunks_nor_order_matter(chunk):
    generated, real = cloud(90, 1, 0.5).astype(np.float32), cloud(80, 2)
    whole = prdc(generated, real)
    assert prdc(generated, real, chunk=chunk) == whole
    assert prdc(generated[::-1], real[::-1], chunk=chunk) == whole


def test_squared_distances_are_those_of_differences():
    a, b = cloud(5, 1).astype(np.float32), cloud(6, 2)
    expected = np.sum((a[:, None] - b) ** 2, 2)
    np.testing.assert_allclose(squared_distances(a, b), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("n", "changes", "words"),
    [
        (5, {}, "5 and 9 rows; give at least 6"),
        (9, {"k": 0}, "k=0, chunk=1024; both must be at least 1"),
        (9, {"chunk": 0}, "both must be at least 1"),
    ],
)
def test_what_has_no_neighbours_is_refused(n, changes, words):
    with pytest.raises(ValueError, match=words):
        prdc(cloud(n, 1), cloud(9, 2), **changes)


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not all finite"):
        prdc(cloud(9, 1), np.full((9, 3), np.inf))
