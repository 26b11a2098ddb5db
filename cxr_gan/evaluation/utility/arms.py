"""What classifiers learn from, and what is shown of each image.

An arm is a training set that depends on a seed. Within a comparison all arms are
trained for equally many steps and tested on the same images.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cxr_gan.evaluation.sides import Side

TURN, SCALE, SHIFT = 10.0, 0.1, 0.05  # degrees; of a side; both ways
FRAME, MARGIN = 4, 8  # px of 64: the outer ones of a view


class Lesson(NamedTuple):
    """What one classifier learns from, drawn as it comes."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    labels: np.ndarray  # int32 [n]
    class_weights: np.ndarray | None = None  # float [K], of the loss

    def counts(self, num_classes: int) -> list[int]:
        """Images of each class."""
        return np.bincount(self.labels, minlength=num_classes).tolist()


Arm = Callable[[int], Lesson]  # of a seed
# int32 labels [n], seed -> uint8 [n, s, s, 1]; other images for another seed.
Draw = Callable[[np.ndarray, int], np.ndarray]


def alone(side: Side, n: int) -> Arm:
    """n images of each class of one set, others for another seed."""

    def of(seed: int) -> Lesson:
        rows = side.pick(np.unique(side.labels).tolist(), n, seed)
        return Lesson(side.images[rows], side.labels[rows].astype(np.int32))

    return of


def few_arms(few: Side, draw: Draw) -> dict[str, Arm]:
    """What can be done where one class has few images, without and with generated ones.

    The last three fill every class up to as many images as the largest has.

    Args:
        few: real images, as unequal as they are.
        draw: of the generator, which was trained on these images alone.
    """
    counts = np.bincount(few.labels)
    weights = len(few) / (len(counts) * counts)

    def weighted(_: int) -> Lesson:
        return Lesson(few.images, few.labels, weights)

    return {
        "plain": lambda _: Lesson(few.images, few.labels),
        # King & Zeng 2001, "Logistic regression in rare events data", section 4.2.
        "class weights": weighted,
        "moved copies": functools.partial(_filled, few, _moved_copies),
        "plain copies": functools.partial(_filled, few, _copies),
        GENERATED: functools.partial(_filled, few, lambda _, y, seed: draw(y, seed)),
    }


def _filled(
    few: Side, more: Callable[[Side, np.ndarray, int], np.ndarray], seed: int
) -> Lesson:
    """Every class as large as the largest, what is missing being made by `more`."""
    counts = np.bincount(few.labels)
    missing = counts.max() - counts
    labels = np.repeat(np.arange(len(counts)), missing).astype(np.int32)
    added = more(few, labels, seed)
    return Lesson(
        np.concatenate([few.images, added]),
        np.concatenate([few.labels, labels]).astype(np.int32),
    )


def _copies(few: Side, labels: np.ndarray, seed: int) -> np.ndarray:
    """Images of these labels, each of a class equally often, give or take one."""
    rows = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        there = labels == label
        order = np.random.default_rng([seed, label]).permutation(
            np.flatnonzero(few.labels == label)
        )
        rows[there] = np.resize(order, there.sum())
    return few.images[rows]


def _moved_copies(few: Side, labels: np.ndarray, seed: int) -> np.ndarray:
    return moved(_copies(few, labels, seed), seed)


def moved(images: np.ndarray, seed: int) -> np.ndarray:
    """Each turned by up to 10 degrees, scaled and shifted by up to 10 % and 5 %.

    uint8 [n, s, s, 1] -> the same; cubic, edges are drawn out. Not mirrored: the heart
    would change side.
    """
    rng = np.random.default_rng(seed)
    n, size = images.shape[:2]
    angles = np.deg2rad(rng.uniform(-TURN, TURN, n))
    scales = rng.uniform(1 - SCALE, 1 + SCALE, n)
    shifts = rng.uniform(-SHIFT, SHIFT, (n, 2)) * size
    middle = (size - 1) / 2
    result = np.empty_like(images)
    cosines, sines = np.cos(angles) / scales, np.sin(angles) / scales
    for at in range(n):
        matrix = np.array([[cosines[at], -sines[at]], [sines[at], cosines[at]]])
        offset = middle - matrix @ (middle + shifts[at])
        turned = ndimage.affine_transform(
            images[at, ..., 0].astype(np.float32), matrix, offset, mode="nearest"
        )
        result[at, ..., 0] = np.clip(np.rint(turned), 0, 255)
    return result


def _inner(images: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A copy, and a view of it without the outer `width` px of 64."""
    size = images.shape[1]
    border = max(1, width * size // 64)
    result = images.copy()
    return result, result[:, border : size - border, border : size - border]


def frame(images: np.ndarray) -> np.ndarray:
    """The outer 4 of 64 px, where no lung is; all else is black."""
    result, inner = _inner(images, FRAME)
    inner[:] = 0
    return result


def centre(images: np.ndarray) -> np.ndarray:
    """All but the outer 8 of 64 px, which are black."""
    _, inner = _inner(images, MARGIN)
    border = (images.shape[1] - inner.shape[1]) // 2
    return np.pad(inner, ((0, 0), (border, border), (border, border), (0, 0)))


REAL, GENERATED = "real", "generated"
WHOLE = "whole image"
# What classifiers are shown, in training and test alike: how much of what they know is
# not of the lungs. To add such a control, add it here.
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    WHOLE: lambda images: images,
    "frame only": frame,
    "centre only": centre,
}
