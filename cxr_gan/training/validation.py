"""Validation during training: generated images compared with val.

Cheap metrics that compare checkpoints of one run; `cxr_gan.evaluate` measures how good
a model is. They use few images and have no real-data reference.
"""

from typing import Any, NamedTuple

import numpy as np
from absl import logging

from cxr_gan.data.dataset import Dataset
from cxr_gan.data.patients import keys_of
from cxr_gan.data.splits import select_subset
from cxr_gan.evaluation.label_classifier_cache import load_or_fit
from cxr_gan.evaluation.metrics import (
    cxr_encoder,
    kid,
    label_classifier,
    ms_ssim,
    nearest_neighbours,
)
from cxr_gan.evaluation.metrics.batching import blocks

IMAGES_PER_CLASS = 250  # at most, generated as well as real
MIN_REAL_PER_CLASS = 20  # images of each class in val
PAIRS = 200  # of images of a class, for MS-SSIM
MAX_TRAIN = 10_000  # training images among which the nearest ones are searched
SEED = 0  # of the choice of pairs and of training images
# The best checkpoint has the lowest KID of those whose near-training share is within
# `near_training_limit`, or of all if there is none.
KID, NEAR_TRAINING = "eval/kid", "eval/near_training"
COPYING_PENALTY = 1000.0  # added to the score above the limit; larger than any KID


class Reference(NamedTuple):
    """What generated images are compared with: the real images of val and train."""

    features: tuple[np.ndarray, ...]  # of each class, float32 [n, d], `cxr` space
    ms_ssim: tuple[float, ...]  # mean within each class
    classifier: Any  # params of the label classifier
    class_names: tuple[str, ...]
    train_features: np.ndarray  # of training images, float32 [m, d]
    # Distance from a training image; 1 % of held-out images are nearer. 0 if there are
    # none.
    near: float


def make_reference(
    dataset: Dataset, samples_per_class: tuple[int, ...] = (0,)
) -> Reference | None:
    """Encodes val and train, and fits the label classifier if it is not cached.

    None, with a warning, where val has too few images of a class.

    Args:
        dataset: of the run.
        samples_per_class: training images of each class that the run uses; 0 = all.
    """
    val, names = dataset.val, dataset.class_names
    fewest = val.counts(len(names)).min()
    if fewest < MIN_REAL_PER_CLASS:
        logging.warning(
            "val has only %d images of a class: with fewer than %d of each class the "
            "run is not validated and has no best checkpoint",
            fewest,
            MIN_REAL_PER_CLASS,
        )
        return None
    by_class = [val.images[rows] for rows in _compared(dataset)]
    features = tuple(cxr_encoder.features(images) for images in by_class)
    train_features = _train_features(dataset, samples_per_class)
    held_out = np.concatenate(features)[_held_out(dataset)]
    return Reference(
        features=features,
        ms_ssim=tuple(mean_ms_ssim(images) for images in by_class),
        classifier=load_or_fit(dataset.train, len(names)),
        class_names=names,
        train_features=train_features,
        near=_near(held_out, train_features),
    )


def _near(held_out: np.ndarray, train_features: np.ndarray) -> float:
    """`Reference.near`; 0, with a warning, without held-out images."""
    distance = np.zeros(0)
    if len(held_out):
        distance = nearest_neighbours.nearest(held_out, train_features).distance
        distance = distance[distance > 0]  # 0: a copy, whose patient has two keys
    if not len(distance):
        logging.warning(
            "all patients of val are in train too: copies of training images are not "
            "detected, and KID is too good; give a val of other patients"
        )
        return 0.0
    return float(np.percentile(distance, 1))


def _compared(dataset: Dataset) -> list[np.ndarray]:
    """Rows of the images of val that generated ones are compared with, by class."""
    labels = dataset.val.labels
    classes = range(len(dataset.class_names))
    return [np.flatnonzero(labels == label)[:IMAGES_PER_CLASS] for label in classes]


def _held_out(dataset: Dataset) -> np.ndarray:
    """Which of these images show patients who are not in train; bool [n]."""
    keys = np.array(keys_of(dataset.val))[np.concatenate(_compared(dataset))]
    return ~np.isin(keys, keys_of(dataset.train))


def _train_features(dataset: Dataset, samples_per_class: tuple[int, ...]) -> np.ndarray:
    """Features of at most MAX_TRAIN images that a run is trained on, float32 [m, d]."""
    subset = select_subset(dataset.train, len(dataset.class_names), samples_per_class)
    rows = np.random.default_rng(SEED).permutation(np.concatenate(subset))
    rows = np.sort(rows[:MAX_TRAIN])
    images = dataset.train.images
    return np.concatenate(
        [cxr_encoder.features(images[rows[block]]) for block in blocks(len(rows), 256)]
    )


def near_training_limit(dataset: Dataset) -> float:
    """Largest eval/near_training of a checkpoint that is not considered to copy.

    Real images of other patients in place of the generated ones would exceed it in 1 %
    of validations. It is 0.032 if val has 250 images of each of two classes, 0.13 if it
    has 20. Images of val whose patients are in train do not count.
    """
    num_classes = len(dataset.class_names)
    return nearest_neighbours.largest_share_below(
        int(_held_out(dataset).sum()), num_classes * IMAGES_PER_CLASS
    )


def score(metrics: dict[str, float], limit: float) -> float | None:
    """The value that the best checkpoint minimises; None without metrics.

    Args:
        metrics: of `validation_metrics`, or empty.
        limit: from `near_training_limit`.
    """
    if not metrics:
        return None
    return metrics[KID] + COPYING_PENALTY * (metrics[NEAR_TRAINING] > limit)


def validation_metrics(
    reference: Reference, images: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Metrics of generated images, uint8 [n, s, s, 1] of classes int [n].

    Returns:
        eval/near_training: fraction of the images that are nearer to a training image
            than 99 % of val, in `cxr` space; about 0.01 where they are equally novel
            and val is large.
        Each of the following by class (key/CLASS) and as the mean over classes (key):
        eval/kid: squared maximum mean discrepancy to val of the same class, in `cxr`
            space; unbiased, so it can be slightly negative.
        eval/label_accuracy: fraction in [0, 1] that the label classifier assigns to the
            class that was asked for.
        eval/ms_ssim_excess: mean MS-SSIM within the class minus that within val; 0
            means equally varied, above 0 less varied.
    """
    metrics: dict[str, float] = {}
    generated = cxr_encoder.features(images)
    distance = nearest_neighbours.nearest(generated, reference.train_features).distance
    metrics[NEAR_TRAINING] = float((distance < reference.near).mean())
    for label, name in enumerate(reference.class_names):
        own = images[labels == label]
        predicted = label_classifier.predict(reference.classifier, own).argmax(1)
        real = reference.features[label]
        metrics[f"{KID}/{name}"] = kid.mmd2(generated[labels == label], real)
        metrics[f"eval/label_accuracy/{name}"] = float((predicted == label).mean())
        excess = mean_ms_ssim(own) - reference.ms_ssim[label]
        metrics[f"eval/ms_ssim_excess/{name}"] = excess
    for key in (KID, "eval/label_accuracy", "eval/ms_ssim_excess"):
        by_class = [metrics[f"{key}/{name}"] for name in reference.class_names]
        metrics[key] = float(np.mean(by_class))
    return metrics


def mean_ms_ssim(images: np.ndarray) -> float:
    """Mean MS-SSIM of pairs of uint8 [n, s, s, 1], at the scales that suit s."""
    return ms_ssim.mean_pairwise(images, SEED, PAIRS)
