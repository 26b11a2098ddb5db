"""Images of a data set that are equal, pixel by pixel."""

import collections
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

SHOWN = 3  # groups of equal images in a warning


def digest(image: np.ndarray) -> bytes:
    """Equal for equal pixels, and different for others."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def warnings(
    digests: Sequence[bytes],
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    names: Sequence[str],
) -> Iterator[str]:
    """One sentence about equal images of different classes, one about the others.

    Args:
        digests: `digest` of each image.
        labels: index into class_names of each image.
        class_names: K names.
        names: of each image.
    """
    rows_of: dict[bytes, list[int]] = collections.defaultdict(list)
    for row, found in enumerate(digests):
        rows_of[found].append(row)
    copies: list[list[int]] = []
    conflicts: list[list[int]] = []
    for rows in rows_of.values():
        if len(rows) > 1:
            is_conflict = len({int(labels[row]) for row in rows}) > 1
            (conflicts if is_conflict else copies).append(rows)
    if conflicts:
        shown = "; ".join(
            " and ".join(f"{names[row]} ({class_names[labels[row]]})" for row in pair)
            for pair in (_of_two_classes(rows, labels) for rows in conflicts[:SHOWN])
        )
        yield (
            f"{sum(map(len, conflicts))} images are equal, pixel by pixel, to images "
            f"of another class, such as {shown}; remove those of the wrong class"
        )
    if copies:
        shown = "; ".join(
            " and ".join(names[row] for row in rows[:2]) for rows in copies[:SHOWN]
        )
        count = sum(map(len, copies)) - len(copies)
        yield (
            f"{count} images are copies, pixel by pixel, of others of their class, "
            f"such as {shown}; all are used: remove those that you do not want"
        )


def _of_two_classes(
    rows: Sequence[int], labels: Sequence[int] | np.ndarray
) -> tuple[int, int]:
    """The first row, and the first row of another class."""
    return rows[0], next(row for row in rows if labels[row] != labels[rows[0]])
