import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from cxr_gan.metrics.neighbours import (
    audit,
    nearest,
    nearest_shifted,
    pixel_vectors,
    same_bytes,
)


def cloud(n, seed, d=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(np.float32)


def pictures(n, seed, size=64):
    """Images of large soft shapes, uint8 [n, s, s, 1], no two alike."""
    rng = np.random.default_rng(seed)
    rough = rng.uniform(40, 215, (n, 10, 10))
    line = np.linspace(0, 8.99, size)
    weight = np.maximum(0, 1 - np.abs(line[:, None] - np.arange(10)))
    return (weight @ rough @ weight.T).round().astype(np.uint8)[..., None]


def shift(images, down, across):
    """Moved, what is left empty at the borders drawn out from the last pixel."""
    row, column = (
        np.clip(np.arange(images.shape[1]) - by, 0, images.shape[1] - 1)
        for by in (down, across)
    )
    return images[:, row][:, :, column]


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_nearest_agrees_with_scikit_learn_whatever_the_chunk(chunk):
    queries, points = cloud(40, 1), cloud(90, 2)
    distance, point = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(queries)
    found = nearest(queries, points, chunk=chunk)
    np.testing.assert_array_equal(found.point, point[:, 0])
    np.testing.assert_allclose(found.distance, distance[:, 0], rtol=1e-6)


@pytest.mark.parametrize("chunk", [3, 16, 1024])
def test_an_equal_point_is_at_distance_0_and_the_first_of_several_is_found(chunk):
    points = 1000 + cloud(50, 0)  # far out, where products of matrices round
    points[[30, 41]] = points[20]
    found = nearest(points, points, chunk=chunk)
    expected = np.arange(50)
    expected[[30, 41]] = 20
    np.testing.assert_array_equal(found.point, expected)
    np.testing.assert_array_equal(found.distance, 0)


def test_images_of_one_patient_do_not_meet():
    points = np.array([[0.0], [1.0], [5.0], [6.5]])
    patients = np.array(["a", "a", "b", "c"])
    found = nearest(points, points, patients=(patients, patients), chunk=2)
    np.testing.assert_array_equal(found.point, [2, 2, 3, 2])
    np.testing.assert_array_equal(found.distance, [5, 4, 1.5, 1.5])


def test_points_of_one_patient_alone_are_refused():
    patients = np.array([7, 8]), np.array([8, 8, 8])
    with pytest.raises(ValueError, match="are of the patient of query 1"):
        nearest(cloud(2, 0), cloud(3, 1), patients=patients)


def test_patients_of_other_images_are_refused():
    with pytest.raises(ValueError, match="1 queries and 3 points, there are 2 and 3"):
        nearest(cloud(2, 0), cloud(3, 1), patients=(np.zeros(1), np.zeros(3)))


def test_pixel_vectors_are_means_of_areas():
    # 48 / 32: an area has one pixel and half the next, or half the last and one.
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1), np.uint8)
    fine = images[..., 0].repeat(2, 1).repeat(2, 2).astype(float)
    areas = fine.reshape(2, 32, 3, 32, 3).mean((2, 4)).reshape(2, -1)
    areas -= areas.mean(1, keepdims=True)
    areas /= np.sqrt(np.sum(areas**2, 1, keepdims=True))
    np.testing.assert_allclose(pixel_vectors(images), areas, atol=1e-6)


def test_squared_distance_of_pixel_vectors_is_2_less_2_correlations():
    images = pictures(2, 0, size=32)
    a, b = pixel_vectors(images)
    correlation = np.corrcoef(images.reshape(2, -1))[0, 1]
    assert np.sum((a - b) ** 2) == pytest.approx(2 - 2 * correlation, rel=1e-5)


def test_neither_brightness_nor_contrast_nor_blur_hides_a_copy():
    train = pictures(60, 0)
    copies = (0.6 * train[:5] + 40).astype(np.uint8)
    around = [shift(train[:5], *by) for by in np.ndindex(3, 3)]
    blurred = shift(np.mean(around, 0), -1, -1).astype(np.uint8)
    for changed in (copies, blurred):
        found = nearest(pixel_vectors(changed), pixel_vectors(train))
        np.testing.assert_array_equal(found.point, np.arange(5))
        assert found.distance.max() < 0.1


def test_noise_of_a_flat_image_is_not_amplified():
    flat = np.full((2, 64, 64, 1), 90, np.uint8)
    flat[0, 0, 0] += 1
    vectors = pixel_vectors(flat)
    assert np.linalg.norm(vectors[0]) < 0.05
    np.testing.assert_array_equal(vectors[1], 0)


@pytest.mark.parametrize(("down", "across"), [(4, -4), (0, 3), (-1, 2)])
def test_a_shifted_copy_is_near_in_the_tolerant_search_alone(down, across):
    train, others = pixel_vectors(pictures(200, 0)), pixel_vectors(pictures(200, 1))
    copies = pixel_vectors(shift(pictures(200, 0)[:10], down, across))
    plain = audit(copies, train, others)
    tolerant = audit(copies, train, others, search=nearest_shifted)
    assert plain.near == 0
    assert tolerant.near == 10
    np.testing.assert_array_equal(tolerant.nearest.point, np.arange(10))


def test_shifts_by_a_quarter_of_a_pixel_are_made_up_for():
    fine = pictures(20, 0, size=128)
    train = pixel_vectors(fine)
    copies = [pixel_vectors(shift(fine[:5], *by)) for by in ((1, 0), (-3, 7), (2, 5))]
    for found in (nearest_shifted(copy, train) for copy in copies):
        np.testing.assert_array_equal(found.point, np.arange(5))
        assert found.distance.max() < 0.02


def test_a_shift_too_far_is_not_made_up_for():
    train = pixel_vectors(pictures(50, 0))
    near, far = (
        nearest_shifted(pixel_vectors(shift(pictures(50, 0)[:5], by, 0)), train)
        for by in (4, 12)
    )
    assert near.distance.max() < far.distance.min() / 4


def test_tolerant_search_finds_an_image_itself_but_not_its_patients():
    vectors = pixel_vectors(pictures(12, 0))
    found = nearest_shifted(vectors, vectors, chunk=5)
    np.testing.assert_array_equal(found.point, np.arange(12))
    np.testing.assert_array_equal(found.distance, 0)
    patients = np.arange(12) // 2
    found = nearest_shifted(vectors, vectors, patients=(patients, patients))
    assert (found.point // 2 != patients).all()


def test_audit_by_hand():
    # Held-out points are 0.1, 0.2, ... 10.1 off: 1st percentile 0.2, median 5.1.
    train = np.array([[0.0], [1000.0]])
    held_out = np.arange(1, 102)[:, None] / 10
    generated = np.array([[10.2], [1000.0], [0.04], [0.1], [995.0]])
    found = audit(generated, train, held_out, worst=3)
    np.testing.assert_array_equal(found.nearest.point, [0, 1, 0, 0, 1])
    assert found.ratio == pytest.approx(0.1 / 5.1)
    assert (found.below, found.exact, found.near) == (3 / 5, 1, 1)
    np.testing.assert_array_equal(found.worst, [[1, 1], [2, 0], [3, 0]])


def test_new_images_are_as_far_from_training_images_as_held_out_ones():
    found = audit(cloud(2000, 1), cloud(500, 0), cloud(2000, 2))
    assert found.ratio == pytest.approx(1, abs=0.05)
    assert found.below == pytest.approx(0.01, abs=0.008)
    assert (found.exact, found.near) == (0, 0)


def test_copies_are_counted_by_how_near_they_are():
    train = cloud(500, 0)
    generated = cloud(100, 1)
    generated[:7] = train[40:47]
    generated[7:20] = train[50:63] + 0.001
    found = audit(generated, train, cloud(500, 2))
    assert (found.exact, found.near) == (7, 13)
    assert found.worst[:7].tolist() == [[i, 40 + i] for i in range(7)]


def test_training_images_of_other_patients_serve_as_reference():
    train = cloud(300, 0).repeat(2, 0)  # two equal images a patient
    patients = np.arange(600) // 2
    found = audit(cloud(300, 1), train, train, patients=(patients, patients))
    assert found.ratio == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match="600 of 600 held-out images are in training"):
        audit(cloud(300, 1), train, train)


def test_bytes_tell_copies_from_all_else():
    train = pictures(9, 0)
    images = train[[4, 4, 0]].copy()
    images[1, 5, 5] ^= 1
    np.testing.assert_array_equal(same_bytes(images, train), [True, False, True])
    with pytest.raises(ValueError, match="must be of one kind and size"):
        same_bytes(images.astype(np.int16), train)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (np.zeros((2, 64, 64, 1)), TypeError, "images are float64; use uint8"),
        (np.zeros((2, 64, 64), np.uint8), ValueError, r"must be \[n, s, s, 1\]"),
        (np.zeros((2, 16, 16, 1), np.uint8), ValueError, "s at least 32"),
    ],
)
def test_what_is_not_an_image_is_refused(images, error, words):
    with pytest.raises(error, match=words):
        pixel_vectors(images)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (nearest, "not all finite"),
        (nearest_shifted, r"must be of pixel_vectors, \[n, 1024\]"),
    ],
)
def test_what_cannot_be_searched_is_refused(search, words):
    with pytest.raises(ValueError, match=words):
        search(np.full((2, 6), np.nan), cloud(3, 0))
