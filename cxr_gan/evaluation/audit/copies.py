"""Images of a data set that show the same radiograph, equal or nearly so."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from cxr_gan.evaluation.metrics.batching import blocks

NEAR = 0.9  # correlation of details above which two images show the same radiograph
ROWS_PER_BLOCK = 2048


class Copies(NamedTuple):
    """Groups of images of the same radiograph; rows of a group ascend."""

    exact: list[list[int]]  # equal pixel by pixel
    all: list[list[int]]  # equal or nearly so


def find(details: np.ndarray, digests: Sequence[str]) -> Copies:
    """Groups of at least two images.

    Near copies differ in compression, scaling, brightness or contrast, or by a small
    crop or rotation. They are found by the correlation of `Measurements.details`, and
    grouped by single linkage.

    Args:
        details: float32 [n, d], of norm 1.
        digests: equal for equal images, [n].
    """
    number = np.unique(np.array(digests), return_inverse=True)[1]
    pairs = [np.empty([0, 2], np.int64)]
    for one in blocks(len(details), ROWS_PER_BLOCK):
        for other in blocks(len(details), ROWS_PER_BLOCK):
            if other.start >= one.start:
                similar = details[one] @ details[other].T > NEAR
                found = np.argwhere(similar) + np.array([one.start, other.start])
                pairs.append(found[found[:, 0] < found[:, 1]])
    first, second = np.concatenate(pairs).T
    edges = (np.ones(len(first)), (number[first], number[second]))
    graph = sparse.coo_array(edges, shape=[len(details)] * 2)
    joined = csgraph.connected_components(graph, directed=False)[1]
    return Copies(_groups(number), _groups(joined[number]))


def _groups(number: np.ndarray) -> list[list[int]]:
    """Groups of rows with equal numbers; single rows are left out."""
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order])) + 1
    groups = [group.tolist() for group in np.split(order, starts) if len(group) > 1]
    return sorted(groups)
