"""Search for images that are equal up to pose, brightness and contrast.

A pose is a shift, a rotation about the centre and a magnification. Images are compared
by thumbnails of 32 x 32 pixels, sampled at a grid of positions in their centre: a point
at the positions themselves, a query at the positions moved by a pose. The samples are
then standardised again, so that neither the pose nor the exposure matters.
"""

import itertools

import numpy as np
from scipy import ndimage

from cxr_gan.evaluation.metrics.batching import blocks, check_images
from cxr_gan.evaluation.metrics.frechet import check_features
from cxr_gan.evaluation.metrics.nearest_neighbours import (
    Nearest,
    Patients,
    check_patients,
    rowwise_squared_distances,
)

SIDE = 32  # px, side of the thumbnails behind `pixel_vectors`
MIN_CONTRAST = 0.5  # grey levels of 255, standard deviation: about that of rounding
MIN_NORM = 0.02  # of the centre of a thumbnail of norm 1; typical is 0.4

# Poses: shift down and across in thumbnail px, angle in degrees, logarithm of the
# magnification to the base MAX_ZOOM.
MAX_SHIFT, MAX_ANGLE, MAX_ZOOM = 2, 10, 1.1
SHIFTS, ANGLES, ZOOMS = np.arange(-2, 3), np.arange(-10, 11, 5), np.arange(-1, 2)
STEPS = np.array([0.5, 0.5, 2.5, 0.5])  # half of those of the coarse search
REFINEMENTS = 3  # of the pose, each with half of the steps of the one before
CANDIDATES = 3  # points of each query whose poses are refined
COARSE, FINE = 4, 2  # thumbnail px between positions of the coarse and the fine grid
OVERSAMPLING = 2  # smoothed values per thumbnail px; between them, linear interpolation
QUERIES_PER_BLOCK = 512


def pixel_vectors(images: np.ndarray) -> np.ndarray:
    """Normalised thumbnails: uint8 [n, s, s, 1] -> float32 [n, 1024], of norm 1.

    An image is reduced to 32 x 32 area means; their mean is subtracted, and the result
    divided by its norm. Brightness and contrast have no influence then, blur has
    little, and the squared distance of two images is 2 - 2 times their correlation. A
    contrast below that of rounding is not amplified: a constant image gives a vector of
    0.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], n is 0, or s is below
            32.
    """
    check_images(images, min_size=SIDE)
    size = images.shape[1]
    left, pixel = np.arange(SIDE)[:, None] * size / SIDE, np.arange(size)
    overlap = np.minimum(left + size / SIDE, pixel + 1) - np.maximum(left, pixel)
    weights = np.maximum(overlap, 0) * SIDE / size
    thumbnails = [weights @ image[..., 0] @ weights.T for image in images]
    flat = np.reshape(thumbnails, (len(images), SIDE**2))
    return _normalize(flat, MIN_CONTRAST * SIDE)


def nearest_in_any_pose(
    queries: np.ndarray, points: np.ndarray, *, patients: Patients | None = None
) -> Nearest:
    """The nearest point of each query, by `pixel_vectors`, minimised over poses.

    Shifts go up to 2 of the 32 pixels in both directions, rotations up to 10 degrees,
    magnifications from 1 / 1.1 to 1.1. A coarse search compares each query at 375 poses
    with all points, at 7 x 7 positions of thumbnails smoothed by a Gaussian of sigma 2
    pixels. For the three nearest points of each query, the pose is then refined, one
    coordinate at a time, at 13 x 13 positions and with sigma 1. This may go beyond the
    limits by up to 7/8 of a coarse step. The result is the nearest of the three.

    Args:
        queries: from `pixel_vectors`, [n, 1024].
        points: from `pixel_vectors`, [m, 1024].
        patients: as in `nearest_neighbours.nearest`.

    Raises:
        ValueError: as `nearest_neighbours.nearest`; the vectors do not have 1024
            elements.
    """
    if not queries.shape[1:] == points.shape[1:] == (SIDE**2,):
        raise ValueError(
            f"vectors have shapes {list(queries.shape)} and {list(points.shape)}; must "
            f"be from pixel_vectors, [n, {SIDE**2}]"
        )
    queries, points = check_features(queries, points, min_rows=1)
    check_patients(patients, len(queries), len(points))
    at_rest = np.zeros((len(points), 4))
    coarse, fine = (
        _sample(_smooth(points, step / 2), at_rest, step) for step in (COARSE, FINE)
    )
    parts = []
    for rows in blocks(len(queries), QUERIES_PER_BLOCK):
        allowed = None
        if patients:
            allowed = patients[0][rows, None] != patients[1]
            if not allowed.any(1).all():
                query = rows.start + np.flatnonzero(~allowed.any(1))[0]
                raise ValueError(
                    f"all points belong to the patient of query {query}; give points "
                    "of other patients"
                )
        point, pose = _candidates(queries[rows], coarse, allowed)
        parts.append(_refine(queries[rows], fine, point, pose))
    point, distance = map(np.concatenate, zip(*parts, strict=True))
    return Nearest(point, distance)


def _candidates(
    queries: np.ndarray, points: np.ndarray, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest points of each query in any coarse pose, and these poses.

    Args:
        queries: float32 [n, 1024].
        points: samples of the coarse grid, float32 [m, k].
        allowed: bool [n, m], or None for all.

    Returns:
        int64 [n, c] and float64 [n, c, 4], with c = CANDIDATES or fewer.
    """
    poses = np.array(list(itertools.product(SHIFTS, SHIFTS, ANGLES, ZOOMS)), float)
    smooth, squares = _smooth(queries, COARSE / 2), np.sum(points**2, 1)
    least = np.full((len(queries), len(points)), np.inf, np.float32)
    which = np.zeros(least.shape, np.int16)
    for number, pose in enumerate(poses):
        moved = _sample(smooth, np.broadcast_to(pose, (len(queries), 4)), COARSE)
        squared = squares - 2 * moved @ points.T + np.sum(moved**2, 1)[:, None]
        better = squared < least
        np.copyto(least, squared, where=better)
        np.copyto(which, np.int16(number), where=better)
    if allowed is not None:
        least[~allowed] = np.inf
    count = min(CANDIDATES, len(points))
    point = np.argpartition(least, count - 1, axis=1)[:, :count]
    point.sort(1)  # of candidates that are equally near, the first counts
    # A query whose patient has all points but one has no other candidate.
    excluded = np.isinf(np.take_along_axis(least, point, 1))
    first = np.take_along_axis(point, excluded.argmin(1)[:, None], 1)
    point = np.where(excluded, first, point)
    return point, poses[np.take_along_axis(which, point, 1)]


def _refine(
    queries: np.ndarray, points: np.ndarray, point: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest candidate of each query, and its distance, after a pattern search.

    Args:
        queries: float32 [n, 1024].
        points: samples of the fine grid, float32 [m, k].
        point: int64 [n, c], the candidates of each query.
        pose: float64 [n, c, 4], where the search begins.
    """
    count = point.shape[1]
    smooth = _smooth(queries, FINE / 2).repeat(count, 0)
    target, pose = points[point.ravel()], pose.reshape(-1, 4)

    def squared_distance(pose: np.ndarray) -> np.ndarray:
        return rowwise_squared_distances(_sample(smooth, pose, FINE), target)

    least = squared_distance(pose)
    for number in range(REFINEMENTS):
        for axis, sign in itertools.product(range(4), (-1, 1)):
            trial = pose.copy()
            trial[:, axis] += sign * STEPS[axis] / 2**number
            new = squared_distance(trial)
            better = new < least
            pose, least = np.where(better[:, None], trial, pose), np.minimum(new, least)
    least = least.reshape(-1, count)
    best = least.argmin(1)[:, None]
    nearest = np.take_along_axis(point, best, 1)[:, 0]
    return nearest, np.sqrt(np.take_along_axis(least, best, 1)[:, 0])


def _smooth(vectors: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian means of thumbnails: [n, 32^2] -> float32 [n, 64, 64].

    sigma is in thumbnail px. Means are of the positions 0, 1/2, 1, ... 31 1/2 px.
    """
    position = np.arange(OVERSAMPLING * SIDE)[:, None] / OVERSAMPLING
    weight = np.exp(-0.5 * ((position - np.arange(SIDE)) / sigma) ** 2)
    weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    return weight @ vectors.reshape(-1, SIDE, SIDE).astype(np.float32) @ weight.T


def _sample(smooth: np.ndarray, pose: np.ndarray, step: int) -> np.ndarray:
    """Samples of a grid in a pose each: [n, 64, 64], [n, 4] -> float32 [n, k].

    The grid has positions every `step` thumbnail px, the outermost 12 px from the
    centre; outside of the thumbnail, its edges are repeated. The samples of an image
    are standardised.
    """
    n, side = smooth.shape[:2]
    offset = np.arange(-12, 13, step)
    down, across = (x.ravel() for x in np.meshgrid(offset, offset, indexing="ij"))
    angle, zoom = np.radians(pose[:, 2, None]), MAX_ZOOM ** pose[:, 3, None]
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    middle = (SIDE - 1) / 2
    row = middle + pose[:, :1] + cos * down - sin * across
    column = middle + pose[:, 1:2] + sin * down + cos * across
    row, column = (np.clip(x * OVERSAMPLING, 0, side - 1) for x in (row, column))
    # One tall image: linear interpolation in two dimensions, not in three.
    row += side * np.arange(n)[:, None]
    tall = smooth.reshape(-1, side)
    samples = ndimage.map_coordinates(tall, [row, column], np.float32, order=1)
    return _normalize(samples, MIN_NORM)


def _normalize(x: np.ndarray, min_norm: float) -> np.ndarray:
    """x [n, d] minus row means, divided by the row norm or `min_norm` if larger.

    float32 [n, d], of norm at most 1.
    """
    x = x - x.mean(1, keepdims=True)
    norm = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), min_norm)
    return (x / norm).astype(np.float32)
