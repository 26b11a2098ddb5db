import numpy as np
import pytest
from scipy import ndimage

from cxr_gan.evaluation.metrics import pixel_search
from cxr_gan.evaluation.metrics.nearest_neighbours import audit, nearest
from cxr_gan.evaluation.metrics.pixel_search import nearest_in_any_pose, pixel_vectors


def smooth_images(n, seed, size=64):
    """Linearly interpolated random grids of 10 x 10: uint8 [n, s, s, 1]."""
    rng = np.random.default_rng(seed)
    grid = rng.uniform(40, 215, (n, 10, 10))
    position = np.linspace(0, 8.99, size)
    weight = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(10)))
    return (weight @ grid @ weight.T).round().astype(np.uint8)[..., None]


def shift(images, down, across):
    """Shifted images; pixels beyond the border repeat the nearest edge pixel."""
    row, column = (
        np.clip(np.arange(images.shape[1]) - by, 0, images.shape[1] - 1)
        for by in (down, across)
    )
    return images[:, row][:, :, column]


def test_pixel_vectors_are_normalised_area_means():
    # 48 px to 32: each area has 1.5 pixels per side.
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1), np.uint8)
    fine = images[..., 0].repeat(2, 1).repeat(2, 2).astype(float)
    areas = fine.reshape(2, 32, 3, 32, 3).mean((2, 4)).reshape(2, -1)
    areas -= areas.mean(1, keepdims=True)
    areas /= np.sqrt(np.sum(areas**2, 1, keepdims=True))
    np.testing.assert_allclose(pixel_vectors(images), areas, atol=1e-6)


def test_copies_with_other_brightness_contrast_or_blur_are_found():
    train = smooth_images(60, 0)
    copies = (0.6 * train[:5] + 40).astype(np.uint8)
    shifted = [shift(train[:5], *by) for by in np.ndindex(3, 3)]
    blurred = shift(np.mean(shifted, 0), -1, -1).astype(np.uint8)
    for changed in (copies, blurred):
        result = nearest(pixel_vectors(changed), pixel_vectors(train))
        np.testing.assert_array_equal(result.point, np.arange(5))
        assert result.distance.max() < 0.1


def test_noise_of_a_constant_image_is_not_amplified():
    flat = np.full((2, 64, 64, 1), 90, np.uint8)
    flat[0, 0, 0] += 1
    vectors = pixel_vectors(flat)
    assert np.linalg.norm(vectors[0]) < 0.05
    np.testing.assert_array_equal(vectors[1], 0)


def moved(images, *, down=0.0, across=0.0, degrees=0.0, zoom=1.0):
    """Images moved by fractions of a side, turned, and enlarged about their centre."""
    size = images.shape[1]
    cos, sin = np.cos(np.radians(degrees)) / zoom, np.sin(np.radians(degrees)) / zoom
    matrix, middle = np.array([[cos, -sin], [sin, cos]]), np.full(2, (size - 1) / 2)
    offset = middle - matrix @ (middle + np.array([down, across]) * size)
    return np.stack(
        [
            ndimage.affine_transform(x[..., 0], matrix, offset, order=1, mode="nearest")
            for x in images
        ]
    )[..., None]


POSES = {
    "shifted": {"down": 1 / 16, "across": -1 / 16},
    "shifted by a fraction of a thumbnail pixel": {"down": 0.01, "across": 0.035},
    "turned": {"degrees": 10},
    "turned the other way": {"degrees": -3.7},
    "enlarged": {"zoom": 1.1},
    "made smaller": {"zoom": 1 / 1.1},
    "all": {"down": -0.03, "across": 0.02, "degrees": 4, "zoom": 1.05},
}


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
def test_copies_in_other_poses_are_near_in_the_search_over_poses_only(pose):
    images = smooth_images(100, 0)
    train, others = pixel_vectors(images), pixel_vectors(smooth_images(100, 1))
    copies = pixel_vectors(moved(images[:5], **pose))
    found = audit(copies, train, others, search=nearest_in_any_pose)
    assert found.near.all()
    np.testing.assert_array_equal(found.nearest.point, range(5))
    by_pixels = audit(copies, train, others)
    assert (found.nearest.distance < by_pixels.nearest.distance).all()
    far = pose != POSES["shifted by a fraction of a thumbnail pixel"]
    assert not (far and by_pixels.near.any())


def test_poses_beyond_the_limits_are_not_found():
    images = smooth_images(100, 0)
    train = pixel_vectors(images)
    for pose in ({"degrees": 25}, {"zoom": 1.4}, {"down": 0.2}):
        copies = pixel_vectors(moved(images[:5], **pose))
        others = pixel_vectors(smooth_images(100, 1))
        assert not audit(copies, train, others, search=nearest_in_any_pose).near.any()


def test_equal_images_have_distance_0_and_the_first_of_them_is_found(monkeypatch):
    monkeypatch.setattr(pixel_search, "QUERIES_PER_BLOCK", 5)
    images = smooth_images(12, 0)
    images[9] = images[2]
    vectors = pixel_vectors(images)
    result = nearest_in_any_pose(vectors, vectors)
    np.testing.assert_array_equal(result.distance, 0)
    np.testing.assert_array_equal(result.point, [*range(9), 2, 10, 11])


def test_points_of_the_same_patient_are_ignored():
    images = smooth_images(12, 0)
    vectors, patients = pixel_vectors(images), np.arange(12) // 2
    result = nearest_in_any_pose(vectors, vectors, patients=(patients, patients))
    assert (result.point // 2 != patients).all()
    one = np.array([0] * 11 + [1])  # a single point is left
    result = nearest_in_any_pose(vectors[:3], vectors, patients=(one[:3], one))
    np.testing.assert_array_equal(result.point, 11)
    with pytest.raises(ValueError, match="all points belong to the patient of query 2"):
        nearest_in_any_pose(
            vectors[:3], vectors[:4], patients=(np.array([1, 1, 0]), np.zeros(4, int))
        )


def test_invalid_vectors_are_refused():
    points = pixel_vectors(smooth_images(3, 0))
    with pytest.raises(ValueError, match=r"must be from pixel_vectors, \[n, 1024\]"):
        nearest_in_any_pose(points[:, :6], points)
    with pytest.raises(ValueError, match="not all finite"):
        nearest_in_any_pose(np.full_like(points, np.nan), points)
    with pytest.raises(ValueError, match="1 queries and 3 points; there are 3 and 3"):
        nearest_in_any_pose(points, points, patients=(np.zeros(1), np.zeros(3)))
