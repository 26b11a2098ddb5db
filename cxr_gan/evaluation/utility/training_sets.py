"""Training sets of the utility test, and the part of each image classifiers see.

A variant maps a seed to a training set. Within a comparison the classifiers of all
variants are trained for equally many steps and tested on the same images.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cxr_gan.evaluation.image_sets import ImageGroup

# Largest augmentation in either direction: degrees, relative size, share of the width.
ROTATION, SCALE, SHIFT = 10.0, 0.1, 0.05
FRAME, MARGIN = 4, 8  # px of 64: width of the frame shown, of the margin hidden


class TrainingSet(NamedTuple):
    """Training images of one classifier, sampled without class balancing."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    labels: np.ndarray  # int32 [n]
    class_weights: np.ndarray | None = None  # float [K], loss weights

    def counts(self, num_classes: int) -> list[int]:
        """Number of images of each class."""
        return np.bincount(self.labels, minlength=num_classes).tolist()


Variant = Callable[[int], TrainingSet]  # seed -> training set
# int32 labels [n], seed -> generated images uint8 [n, s, s, 1].
Draw = Callable[[np.ndarray, int], np.ndarray]


def balanced_subset(group: ImageGroup, n: int) -> Variant:
    """n random images of each class of a set; the selection depends on the seed."""

    def variant(seed: int) -> TrainingSet:
        rows = group.select(np.unique(group.labels).tolist(), n, seed)
        return TrainingSet(group.images[rows], group.labels[rows].astype(np.int32))

    return variant


def few_image_variants(few: ImageGroup, draw: Draw) -> dict[str, Variant]:
    """Methods for a training set with a rare class, with and without a generator.

    The last three fill up every class to the size of the largest one.

    Args:
        few: real images, with unequal numbers of images per class.
        draw: samples from the generator, which was trained on these images only.
    """
    counts = np.bincount(few.labels)
    weights = len(few) / (len(counts) * counts)

    def weighted(_: int) -> TrainingSet:
        return TrainingSet(few.images, few.labels, weights)

    return {
        "plain": lambda _: TrainingSet(few.images, few.labels),
        # King & Zeng 2001, "Logistic regression in rare events data", section 4.2.
        "class weights": weighted,
        "moved copies": functools.partial(_fill_classes, few, _augmented_copies),
        "plain copies": functools.partial(_fill_classes, few, _copies),
        GENERATED: functools.partial(
            _fill_classes, few, lambda _, labels, seed: draw(labels, seed)
        ),
    }


def _fill_classes(
    few: ImageGroup,
    make_images: Callable[[ImageGroup, np.ndarray, int], np.ndarray],
    seed: int,
) -> TrainingSet:
    """Fills up every class to the size of the largest, with images of `make_images`."""
    counts = np.bincount(few.labels)
    missing = counts.max() - counts
    labels = np.repeat(np.arange(len(counts)), missing).astype(np.int32)
    added = make_images(few, labels, seed)
    return TrainingSet(
        np.concatenate([few.images, added]),
        np.concatenate([few.labels, labels]).astype(np.int32),
    )


def _copies(few: ImageGroup, labels: np.ndarray, seed: int) -> np.ndarray:
    """Copies of real images of these labels.

    The images of a class are copied equally often; their counts differ by at most one.
    """
    rows = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = labels == label
        order = np.random.default_rng([seed, label]).permutation(
            np.flatnonzero(few.labels == label)
        )
        rows[members] = np.resize(order, members.sum())
    return few.images[rows]


def _augmented_copies(few: ImageGroup, labels: np.ndarray, seed: int) -> np.ndarray:
    return augment(_copies(few, labels, seed), seed)


def augment(images: np.ndarray, seed: int) -> np.ndarray:
    """Rotates by up to 10 degrees, scales by up to 10 % and shifts by up to 5 %.

    uint8 [n, s, s, 1] -> uint8 [n, s, s, 1], by cubic interpolation; border pixels are
    repeated outwards. Images are never mirrored: that would move the heart to the other
    side.
    """
    rng = np.random.default_rng(seed)
    n, size = images.shape[:2]
    angles = np.deg2rad(rng.uniform(-ROTATION, ROTATION, n))
    scales = rng.uniform(1 - SCALE, 1 + SCALE, n)
    shifts = rng.uniform(-SHIFT, SHIFT, (n, 2)) * size
    middle = (size - 1) / 2
    result = np.empty_like(images)
    cosines, sines = np.cos(angles) / scales, np.sin(angles) / scales
    for at in range(n):
        matrix = np.array([[cosines[at], -sines[at]], [sines[at], cosines[at]]])
        offset = middle - matrix @ (middle + shifts[at])
        transformed = ndimage.affine_transform(
            images[at, ..., 0].astype(np.float32), matrix, offset, mode="nearest"
        )
        result[at, ..., 0] = np.clip(np.rint(transformed), 0, 255)
    return result


def _inner(images: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A copy of the images, and a view of it without the outer `width` px of 64."""
    size = images.shape[1]
    border = max(1, width * size // 64)
    result = images.copy()
    return result, result[:, border : size - border, border : size - border]


def frame(images: np.ndarray) -> np.ndarray:
    """Keeps the outer 4 of 64 px, which contain no lung; the rest becomes black."""
    result, inner = _inner(images, FRAME)
    inner[:] = 0
    return result


def centre(images: np.ndarray) -> np.ndarray:
    """Blackens the outer 8 of 64 px."""
    _, inner = _inner(images, MARGIN)
    border = (images.shape[1] - inner.shape[1]) // 2
    return np.pad(inner, ((0, 0), (border, border), (border, border), (0, 0)))


REAL, GENERATED = "real", "generated"
WHOLE = "whole image"
# Part of each image that classifiers see, both in training and in test. Restricted
# views show how much of the AUROC does not come from the lungs. To add a view, add one
# entry here.
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    WHOLE: lambda images: images,
    "frame only": frame,
    "centre only": centre,
}
