"""Nearest-neighbour search for generated images that copy training images.

For an encoder, a shifted copy is far from its original. Apply `audit` twice: to encoder
features, and to pixels by `pixel_search`. The reference for "near" is the distance from
held-out images to training images: they show other patients, so their nearest training
images are near only by chance.
"""

import hashlib
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from cxr_gan.evaluation.metrics.batching import blocks
from cxr_gan.evaluation.metrics.frechet import check_features
from cxr_gan.evaluation.metrics.precision_recall import (
    rounding_error,
    squared_distances,
)

ROWS_PER_BLOCK = 1024  # queries and points; peak memory is its square of distances
WORST = 16  # pairs that an audit lists


class Nearest(NamedTuple):
    """For each query, the nearest point."""

    point: np.ndarray  # int64 [n], index of the point
    distance: np.ndarray  # float64 [n], Euclidean


class Audit(NamedTuple):
    """How near generated images are to training images; see `audit`."""

    nearest: Nearest  # nearest training image of each generated one
    ratio: float  # median distance / that of held-out images; 1 where equally novel
    below: np.ndarray  # bool [n], below the 1st percentile of held-out distances;
    #                    true for a share of 0.01 where equally novel
    exact: np.ndarray  # bool [n], at distance 0: equal in this space; for files see
    #                    `same_bytes`
    near: np.ndarray  # bool [n], at a distance above 0, below 1/4 of that percentile
    worst: np.ndarray  # int64 [w, 2], generated and training index, nearest pair first


Patients = tuple[np.ndarray, np.ndarray]
Search = Callable[..., Nearest]


def nearest(
    queries: np.ndarray, points: np.ndarray, *, patients: Patients | None = None
) -> Nearest:
    """Nearest point of each query; the first one where several are equally near.

    Args:
        queries: float [n, d].
        points: float [m, d].
        patients: of queries [n] and of points [m]; points of the query's own patient
            are ignored.

    Raises:
        ValueError: if n or m is 0, d differs, a value is not finite, the lengths of
            `patients` are not n and m, or all points belong to one query's patient.
    """
    queries, points = check_features(queries, points, min_rows=1)
    n, m = len(queries), len(points)
    check_patients(patients, n, m)
    index, squared = np.zeros(n, np.int64), np.full(n, np.inf)
    tiles = itertools.product(*(blocks(count, ROWS_PER_BLOCK) for count in (n, m)))
    for rows, columns in tiles:
        allowed = np.ones((1, 1), bool)
        if patients:
            allowed = patients[0][rows, None] != patients[1][None, columns]
        column, new = _nearest_in_block(queries[rows], points[columns], allowed)
        better = new < squared[rows]
        index[rows][better] = columns.start + column[better]
        squared[rows][better] = new[better]
    if np.isinf(squared).any():
        query = np.flatnonzero(np.isinf(squared))[0]
        raise ValueError(
            f"all points belong to the patient of query {query}; give points of other "
            "patients"
        )
    return Nearest(index, np.sqrt(squared))


def audit(
    generated: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    patients: Patients | None = None,
    search: Search = nearest,
) -> Audit:
    """Compares distances from generated and from held-out images to training images.

    A near copy is defined by a distance below a quarter of the first percentile of
    held-out images. For small r, the distance to the nearest of many points in D
    intrinsic dimensions has P(distance < r) proportional to r^D (Levina & Bickel 2004,
    "Maximum likelihood estimation of intrinsic dimension", section 3), so by chance
    0.01 / 4^D of images are below it: 1 in 100 000 for D = 5. With fewer than 100
    held-out images, that percentile is about their smallest distance.

    Args:
        generated: vectors, float [n, d].
        train: float [m, d], all training images.
        held_out: float [h, d], images of patients who are not in training; with
            `patients`, also training images.
        patients: of held-out images [h] and of training images [m]. Each held-out image
            is compared with other patients only, so training images can serve as
            held-out ones.
        search: `nearest`, or one of `pixel_search`; also used for held-out images.

    Raises:
        ValueError: as the search; the first percentile is 0, that is, held-out images
            are in training.
    """
    matches = search(generated, train)
    reference = search(held_out, train, patients=patients).distance
    first = np.percentile(reference, 1)
    if not first:
        raise ValueError(
            f"{np.sum(reference == 0)} of {len(reference)} held-out images are in "
            "training: use a split without shared images, or give `patients`"
        )
    distance = matches.distance
    order = np.argsort(distance, kind="stable")[:WORST]
    return Audit(
        nearest=matches,
        ratio=float(np.median(distance) / np.median(reference)),
        below=distance < first,
        exact=distance == 0,
        near=(distance > 0) & (distance < first / 4),
        worst=np.stack([order, matches.point[order]], 1),
    )


def share_below_percentile(num_held_out: int) -> tuple[float, float]:
    """95 % interval of `Audit.below.mean()` where generated images are equally novel.

    Its width is the uncertainty of the first percentile of so many held-out images. The
    share below the k-th smallest of h distances follows Beta(k, h + 1 - k).
    """
    k = 1 + 0.01 * (num_held_out - 1)
    low, high = stats.beta.ppf([0.025, 0.975], k, num_held_out + 1 - k)
    return float(low), float(high)


def largest_share_below(num_held_out: int, num_generated: int) -> float:
    """What `Audit.below.mean()` exceeds in 1 % of cases where images are equally novel.

    The expected share follows the Beta distribution of `share_below_percentile`, and
    the number of generated images below is binomial with that share.
    """
    k = 1 + 0.01 * (num_held_out - 1)
    count = stats.betabinom.ppf(0.99, num_generated, k, num_held_out + 1 - k)
    return float(count) / num_generated


def check_patients(patients: Patients | None, n: int, m: int) -> None:
    """Raises ValueError unless there are n patients of queries and m of points."""
    if patients and (len(patients[0]), len(patients[1])) != (n, m):
        raise ValueError(
            f"patients are given for {len(patients[0])} queries and {len(patients[1])} "
            f"points; there are {n} and {m}"
        )


def same_bytes(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """bool [n]: whether each of images [n, ...] is equal to one of train [m, ...].

    Raises:
        ValueError: if dtypes or shapes differ, since bytes are not comparable then.
    """
    if images.dtype != train.dtype or images.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)} and {train.dtype} "
            f"{list(train.shape)}; must have the same dtype and size"
        )
    known = {hashlib.sha256(image.tobytes()).digest() for image in train}
    same = [hashlib.sha256(image.tobytes()).digest() in known for image in images]
    return np.array(same, bool)


def _nearest_in_block(
    queries: np.ndarray, points: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each query, the index of the nearest point, and its squared distance.

    Distances are computed from differences, so they are exactly 0 for equal vectors;
    infinite where no point is allowed. `allowed` is bool [n, m] or [1, 1].
    """
    squared = np.where(allowed, squared_distances(queries, points), np.inf)
    least = squared.min(1)
    close = squared <= (least + rounding_error(queries, points))[:, None]
    index = close.argmax(1)
    # Where rounding could have changed the order, compare exact distances.
    for row in np.flatnonzero((close.sum(1) > 1) & np.isfinite(least)):
        columns = np.flatnonzero(close[row])
        exact = rowwise_squared_distances(queries[row], points[columns])
        index[row] = columns[exact.argmin()]
    exact = rowwise_squared_distances(queries, points[index])
    return index, np.where(np.isfinite(least), exact, np.inf)


def rowwise_squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a, b [n, d] -> float64 [n]: squared distance of each row of a to that of b."""
    return np.sum((a.astype(np.float64) - b) ** 2, -1)
