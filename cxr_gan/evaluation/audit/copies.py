"""Images of a data set that show the same radiograph, equal or nearly so."""

import itertools
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
    edges = [np.empty([0, 2], np.int64)]
    blocks_of_rows = list(blocks(len(details), ROWS_PER_BLOCK))
    for one, other in itertools.combinations_with_replacement(blocks_of_rows, 2):
        edges.append(_edges(details[one], details[other], one.start, other.start))
    joined = _components(number[np.concatenate(edges)], len(details))
    return Copies(_groups(number), _groups(joined[number]))


def _edges(one: np.ndarray, other: np.ndarray, first: int, second: int) -> np.ndarray:
    """Pairs of rows that connect all similar rows of two blocks, int64 [e, 2].

    There are fewer than rows, however many rows are similar.

    Args:
        one: details of the rows from `first` on.
        other: details of the rows from `second` on.
        first: number of the first row of `one`.
        second: number of the first row of `other`.
    """
    similar = np.argwhere(one @ other.T > NEAR) + np.array([0, len(one)])
    component = _components(similar, len(one) + len(other))
    rows = np.r_[first : first + len(one), second : second + len(other)]
    representative = np.unique(component, return_index=True)[1][component]
    return np.stack([rows, rows[representative]], 1)[rows != rows[representative]]


def _components(edges: np.ndarray, n: int) -> np.ndarray:
    """The connected component of each of n nodes, int [n]; edges int [e, 2]."""
    graph = sparse.coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(n, n))
    found: np.ndarray = csgraph.connected_components(graph, directed=False)[1]
    return found


def _groups(number: np.ndarray) -> list[list[int]]:
    """Groups of rows with equal numbers; single rows are left out."""
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order])) + 1
    groups = [group.tolist() for group in np.split(order, starts) if len(group) > 1]
    return sorted(groups)
