"""Whether generated images are copies of training images.

No one space shows every copy: a blurred one looks new to an encoder, a shifted one to
its pixels. So ask twice: `audit` of features, and of `pixel_vectors` with the search
`nearest_shifted`. What counts as near is told by held-out images: other patients, whose
radiographs come as near to training images as chance has it.
"""

import hashlib
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxr_gan.metrics.frechet import check_features
from cxr_gan.metrics.prdc import ROUNDING, squared_distances

SIDE = 32  # pixels of images seen from afar
REACH, STEP = 2, 0.5  # pixels of those, up or down and left or right
LEAST_CONTRAST = 0.5  # grey levels of 255, standard deviation: that of rounding
LEAST_MIDDLE = 0.02  # length of a middle of an image of length 1; 0.4, as a rule


class Nearest(NamedTuple):
    """Of each query, the nearest point."""

    point: np.ndarray  # int64 [n], its index
    distance: np.ndarray  # float64 [n], Euclidean


class Audit(NamedTuple):
    """How near generated images come to training images; see `audit`."""

    nearest: Nearest  # training image of each generated one
    ratio: float  # median distance over that of held-out images; 1 if as new as they
    below: float  # share nearer than 99 % of held-out images; 0.01 if as new as they
    exact: int  # distance 0: alike in this space; for files see `same_bytes`
    near: int  # above 0, below a quarter of the 1st percentile of held-out images
    worst: np.ndarray  # int64 [w, 2], generated and training index, nearest pair first


Patients = tuple[np.ndarray, np.ndarray]
Search = Callable[..., Nearest]


def nearest(
    queries: np.ndarray,
    points: np.ndarray,
    *,
    patients: Patients | None = None,
    chunk: int = 1024,
) -> Nearest:
    """The point nearest to each query; of equally near ones, the first.

    Args:
        queries: float [n, d].
        points: float [m, d].
        patients: of queries [n] and of points [m]: those of one patient do not meet.
        chunk: queries, and points, looked at in one go; the result does not depend on
            it. Memory is that of chunk^2 distances.

    Raises:
        ValueError: if n or m is 0, d differs, a value is not finite, `patients` are not
            as many, or all points are of one query's patient.
    """
    queries, points = check_features(queries, points, least=1)
    n, m = len(queries), len(points)
    if patients and (len(patients[0]), len(patients[1])) != (n, m):
        raise ValueError(
            f"patients of {len(patients[0])} queries and {len(patients[1])} points, "
            f"there are {n} and {m}"
        )
    index, squared = np.zeros(n, np.int64), np.full(n, np.inf)
    for at in range(0, n, chunk):
        mine = slice(at, at + chunk)
        for start in range(0, m, chunk):
            block = slice(start, start + chunk)
            allowed = np.ones((1, 1), bool)
            if patients:
                allowed = patients[0][mine, None] != patients[1][None, block]
            column, found = _nearest_of(queries[mine], points[block], allowed)
            better = found < squared[mine]
            index[mine][better] = start + column[better]
            squared[mine][better] = found[better]
    if np.isinf(squared).any():
        query = np.flatnonzero(np.isinf(squared))[0]
        raise ValueError(f"all points are of the patient of query {query}")
    return Nearest(index, np.sqrt(squared))


def nearest_shifted(
    queries: np.ndarray,
    points: np.ndarray,
    *,
    patients: Patients | None = None,
    chunk: int = 1024,
) -> Nearest:
    """`nearest` of `pixel_vectors`, by the least distance over shifts up to 2 pixels.

    Both are seen through a Gaussian of deviation 1 pixel of the 32, so that shifts by
    fractions of one are shifts, too: the middle of a query at 13 x 13 places, each
    point at the same places moved by every half pixel. That of the nearest is then
    done in eighths. Each time brightness and contrast are made equal again. 2 pixels
    are 1/16 of the image. 81 searches, each a sixth of the work of `nearest`.

    Args:
        queries: from `pixel_vectors`, [n, 1024].
        points: the same, [m, 1024].
        patients: as in `nearest`.
        chunk: as in `nearest`.

    Raises:
        ValueError: as `nearest`; the vectors are not of 1024.
    """
    if not queries.shape[1:] == points.shape[1:] == (SIDE**2,):
        raise ValueError(
            f"vectors are {list(queries.shape)} and {list(points.shape)}; must be of "
            f"pixel_vectors, [n, {SIDE**2}]"
        )
    middle = _seen(queries, np.zeros(2))
    point = np.zeros(len(queries), np.int64)
    distance, shift = np.full(len(queries), np.inf), np.zeros((len(queries), 2))
    steps = np.arange(-REACH, REACH + STEP, STEP)
    for coarse in itertools.product(steps, steps):
        seen = _seen(points, np.array(coarse))
        found = nearest(middle, seen, patients=patients, chunk=chunk)
        better = found.distance < distance
        point[better], distance[better] = found.point[better], found.distance[better]
        shift[better] = coarse
    for fine in itertools.product(np.arange(-2, 3) / 8, repeat=2):
        seen = _seen(points[point], shift + fine)
        distance = np.minimum(distance, np.sqrt(_exact(middle, seen)))
    return Nearest(point, distance)


def audit(
    generated: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    patients: Patients | None = None,
    search: Search = nearest,
    worst: int = 16,
) -> Audit:
    """Compares distances to training images with those of held-out ones.

    A quarter of the first percentile defines a near duplicate: distances to the nearest
    of many points in D intrinsic dimensions have P(distance < r) in proportion to r^D
    where r is small (Levina & Bickel 2004, "Maximum likelihood estimation of intrinsic
    dimension", section 3), so chance puts 0.01 / 4^D there, 1 in 100 000 for D = 5.
    With fewer than 100 held-out images that percentile is about their least distance.

    Args:
        generated: vectors, float [n, d].
        train: float [m, d], all that was trained on.
        held_out: float [h, d], images of patients not in training, else of any.
        patients: of held-out [h] and of training images [m]: a held-out image is
            compared with other patients only, so training images can serve, too.
        search: `nearest` or `nearest_shifted`; of held-out images, too.
        worst: pairs to list, at most.

    Raises:
        ValueError: as the search; the first percentile is 0, that is, held-out images
            are in training.
    """
    found = search(generated, train)
    reference = search(held_out, train, patients=patients).distance
    first = np.percentile(reference, 1)
    if not first:
        raise ValueError(
            f"{np.sum(reference == 0)} of {len(reference)} held-out images are in "
            "training: the split leaks, or give `patients`"
        )
    distance = found.distance
    order = np.argsort(distance, kind="stable")[:worst]
    return Audit(
        nearest=found,
        ratio=float(np.median(distance) / np.median(reference)),
        below=float(np.mean(distance < first)),
        exact=int(np.sum(distance == 0)),
        near=int(np.sum((distance > 0) & (distance < first / 4))),
        worst=np.stack([order, found.point[order]], 1),
    )


def pixel_vectors(images: np.ndarray) -> np.ndarray:
    """Images seen from afar: uint8 [n, s, s, 1] -> float32 [n, 1024], of length 1.

    Means over the areas of 32 x 32 pixels, less their mean, over their length: neither
    blur nor brightness nor contrast tells two apart, and the squared distance is
    2 - 2 times the correlation. A contrast below that of rounding is not amplified: a
    flat image is 0.

    Raises:
        TypeError: if images are not uint8.
        ValueError: if the shape is not as stated, or s is below 32.
    """
    if images.dtype != np.uint8:
        raise TypeError(f"images are {images.dtype}; use uint8")
    size = images.shape[1] if images.ndim == 4 else 0
    if size < SIDE or images.shape[1:] != (size, size, 1):
        raise ValueError(
            f"images are {list(images.shape)}; must be [n, s, s, 1], s at least {SIDE}"
        )
    left, pixel = np.arange(SIDE)[:, None] * size / SIDE, np.arange(size)
    overlap = np.minimum(left + size / SIDE, pixel + 1) - np.maximum(left, pixel)
    share = np.maximum(overlap, 0) * SIDE / size
    small = [share @ image[..., 0] @ share.T for image in images]
    flat = np.reshape(small, (len(images), SIDE**2))
    return _unit(flat, LEAST_CONTRAST * SIDE)


def same_bytes(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """bool [n]: whether an image [n, ...] is, to the bit, one of train [m, ...].

    Raises:
        ValueError: if dtypes or shapes differ: bytes say nothing then.
    """
    if images.dtype != train.dtype or images.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)} and {train.dtype} "
            f"{list(train.shape)}; must be of one kind and size"
        )
    known = {hashlib.sha256(image.tobytes()).digest() for image in train}
    found = [hashlib.sha256(image.tobytes()).digest() in known for image in images]
    return np.array(found, bool)


def _nearest_of(
    queries: np.ndarray, points: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Index, and squared distance from differences: exact for equal vectors.

    Infinite where none is allowed. `allowed` is bool [n, m], or as one for all.
    """
    squared = np.where(allowed, squared_distances(queries, points), np.inf)
    longest = max(np.max(np.sum(x * x, 1, dtype=np.float64)) for x in (queries, points))
    least = squared.min(1)
    close = squared <= (least + ROUNDING * longest)[:, None]
    index = close.argmax(1)
    for row in np.flatnonzero((close.sum(1) > 1) & np.isfinite(least)):
        columns = np.flatnonzero(close[row])
        index[row] = columns[_exact(queries[row], points[columns]).argmin()]
    return index, np.where(np.isfinite(least), _exact(queries, points[index]), np.inf)


def _exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of rows that correspond."""
    return np.sum((a.astype(np.float64) - b) ** 2, -1)


def _seen(vectors: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """float [n, 32^2] -> float32 [n, 13^2], places moved by shift [2] or [n, 2]."""
    place = np.arange(REACH + 1.5, SIDE - REACH - 1, 2) + shift[..., None]
    weight = np.exp(-0.5 * (place[..., None] - np.arange(SIDE)) ** 2)
    weight = (weight / weight.sum(-1, keepdims=True)).astype(np.float32)
    down, across = weight[..., 0, :, :], weight[..., 1, :, :]
    seen = down @ vectors.reshape(-1, SIDE, SIDE) @ np.swapaxes(across, -1, -2)
    return _unit(seen.reshape(len(vectors), -1), LEAST_MIDDLE)


def _unit(x: np.ndarray, least: float) -> np.ndarray:
    """x [n, d] less its mean, over its length or `least`: float32, no longer than 1."""
    x = x - x.mean(1, keepdims=True)
    length = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), least)
    return (x / length).astype(np.float32)
