import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from cxr_gan.evaluation.metrics import nearest_neighbours
from cxr_gan.evaluation.metrics.nearest_neighbours import (
    audit,
    nearest,
    same_bytes,
)


def normal_points(n, seed, d=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(np.float32)


@pytest.fixture
def rows_per_block(request, monkeypatch):
    monkeypatch.setattr(nearest_neighbours, "ROWS_PER_BLOCK", request.param)


any_block_size = pytest.mark.parametrize("rows_per_block", [3, 16, 1024], indirect=True)


@any_block_size
def test_nearest_agrees_with_scikit_learn(rows_per_block):
    queries, points = normal_points(40, 1), normal_points(90, 2)
    distance, point = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(queries)
    result = nearest(queries, points)
    np.testing.assert_array_equal(result.point, point[:, 0])
    np.testing.assert_allclose(result.distance, distance[:, 0], rtol=1e-6)


@any_block_size
def test_equal_point_has_distance_0_and_ties_give_the_first_point(rows_per_block):
    points = 1000 + normal_points(50, 0)  # far from 0, where matrix products round
    points[[30, 41]] = points[20]
    result = nearest(points, points)
    expected = np.arange(50)
    expected[[30, 41]] = 20
    np.testing.assert_array_equal(result.point, expected)
    np.testing.assert_array_equal(result.distance, 0)


@any_block_size
def test_points_of_the_same_patient_are_ignored(rows_per_block):
    points = np.array([[0.0], [1.0], [5.0], [6.5]])
    patients = np.array(["a", "a", "b", "c"])
    result = nearest(points, points, patients=(patients, patients))
    np.testing.assert_array_equal(result.point, [2, 2, 3, 2])
    np.testing.assert_array_equal(result.distance, [5, 4, 1.5, 1.5])


@pytest.mark.parametrize(
    ("patients", "message"),
    [
        (([7, 8], [8, 8, 8]), "all points belong to the patient of query 1"),
        (([7], [8, 8, 8]), "1 queries and 3 points; there are 2 and 3"),
    ],
)
def test_unusable_patients_are_refused(patients, message):
    patients = tuple(map(np.array, patients))
    with pytest.raises(ValueError, match=message):
        nearest(normal_points(2, 0), normal_points(3, 1), patients=patients)


def test_audit_agrees_with_hand_calculation():
    # Held-out distances are 0.1, 0.2, ..., 10.1: 1st percentile 0.2, median 5.1.
    train = np.array([[0.0], [1000.0]])
    held_out = np.arange(1, 102)[:, None] / 10
    generated = np.array([[10.2], [1000.0], [0.04], [0.1], [995.0]])
    result = audit(generated, train, held_out)
    np.testing.assert_array_equal(result.nearest.point, [0, 1, 0, 0, 1])
    assert result.ratio == pytest.approx(0.1 / 5.1)
    assert result.below.tolist() == [False, True, True, True, False]
    assert np.flatnonzero(result.exact).tolist() == [1]
    assert np.flatnonzero(result.near).tolist() == [2]
    np.testing.assert_array_equal(result.worst[:3], [[1, 1], [2, 0], [3, 0]])


def test_training_images_of_other_patients_serve_as_held_out_images():
    train = normal_points(300, 0).repeat(2, 0)  # two equal images a patient
    patients = np.arange(600) // 2
    result = audit(normal_points(300, 1), train, train, patients=(patients, patients))
    assert result.ratio == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match="600 of 600 held-out images are in training"):
        audit(normal_points(300, 1), train, train)


def test_same_bytes_finds_exact_copies_only():
    train = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8)
    images = train[[4, 4, 0]].copy()
    images[1, 5, 5] ^= 1
    np.testing.assert_array_equal(same_bytes(images, train), [True, False, True])
    with pytest.raises(ValueError, match="must have the same dtype and size"):
        same_bytes(images.astype(np.int16), train)


def test_invalid_vectors_are_refused():
    with pytest.raises(ValueError, match="not all finite"):
        nearest(np.full((2, 6), np.nan), normal_points(3, 0))
