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
    first: "TrainingSet | None" = None  # images of the first half of the steps


Variant = Callable[[int], TrainingSet]  # seed -> training set
# int32 labels [n], seed -> generated images uint8 [n, s, s, 1].
Draw = Callable[[np.ndarray, int], np.ndarray]


def balanced_subset(group: ImageGroup, n: int) -> Variant:
    """n random images of each class of a set; the selection depends on the seed."""

    def variant(seed: int) -> TrainingSet:
        rows = group.select(np.unique(group.labels).tolist(), n, seed)
        return TrainingSet(group.images[rows], group.labels[rows].astype(np.int32))

    return variant


def pretraining_variants(
    generated: ImageGroup, train: ImageGroup, n: int
) -> dict[str, Variant]:
    """n real images of each class alone, or after generated ones; equally many steps.

    Both have the same real images.
    """
    real = balanced_subset(train, n)

    def after_generated(seed: int) -> TrainingSet:
        first = TrainingSet(generated.images, generated.labels.astype(np.int32))
        return real(seed)._replace(first=first)

    return {REAL: real, THEN_REAL: after_generated}


def few_image_variants(few: ImageGroup, draw: Draw) -> dict[str, Variant]:
    """Methods for a training set with a rare class, with and without a generator.

    The last three fill up every class to the size of the largest one.

    Args:
        few: real images, with unequal numbers of images per class.
        draw: samples from the generator, which was trained on these images only.
    """
    counts = np.bincount(few.labels)
    weights = len(few) / (len(counts) * counts)

    def filled(make_images: Draw) -> Variant:
        return functools.partial(_fill_classes, few, make_images)

    return {
        "plain": lambda _: TrainingSet(few.images, few.labels),
        # King & Zeng 2001, "Logistic regression in rare events data", section 4.2.
        "class weights": lambda _: TrainingSet(few.images, few.labels, weights),
        "moved copies": filled(
            lambda labels, seed: augment(_copies(few, labels, seed), seed)
        ),
        "plain copies": filled(functools.partial(_copies, few)),
        GENERATED: filled(draw),
    }


def _fill_classes(few: ImageGroup, make_images: Draw, seed: int) -> TrainingSet:
    """Fills up every class to the size of the largest, with images of `make_images`."""
    counts = np.bincount(few.labels)
    missing = counts.max() - counts
    labels = np.repeat(np.arange(len(counts)), missing).astype(np.int32)
    return TrainingSet(
        np.concatenate([few.images, make_images(labels, seed)]),
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


def frame(images: np.ndarray) -> np.ndarray:
    """Keeps the outer 4 of 64 px, which contain no lung; the rest becomes black."""
    inner = _inner(images, FRAME)
    result = images.copy()
    result[:, inner, inner] = 0
    return result


def centre(images: np.ndarray) -> np.ndarray:
    """Blackens the outer 8 of 64 px."""
    inner = _inner(images, MARGIN)
    result = np.zeros_like(images)
    result[:, inner, inner] = images[:, inner, inner]
    return result


def _inner(images: np.ndarray, width: int) -> slice:
    """The rows, and the columns, without the outer `width` px of 64."""
    size = images.shape[1]
    border = max(1, width * size // 64)
    return slice(border, size - border)


REAL, GENERATED, THEN_REAL = "real", "generated", "generated, then real"
WHOLE = "whole image"
# Part of each image that classifiers see, both in training and in test. Restricted
# views show how much of the AUROC does not come from the lungs. To add a view, add one
# entry here.
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    WHOLE: lambda images: images,
    "frame only": frame,
    "centre only": centre,
}
