"""Validation during training: generated images compared with val.

Cheap metrics that compare checkpoints of one run; `cxr_gan.evaluate` measures how good
a model is. They use few images and have no real-data reference.
"""

from typing import Any, NamedTuple

import numpy as np
from absl import logging

from cxr_gan.data.dataset import Dataset
from cxr_gan.evaluation.label_classifier_cache import load_or_fit
from cxr_gan.evaluation.metrics import cxr_encoder, kid, label_classifier, ms_ssim

IMAGES_PER_CLASS = 250  # at most, generated as well as real
MIN_REAL_PER_CLASS = 20  # images of each class in val
PAIRS = 200  # of images of a class, for MS-SSIM
SEED = 0  # of the choice of pairs
BEST_METRIC = "eval/kid"  # the best checkpoint has the lowest value


class Reference(NamedTuple):
    """What generated images are compared with: the real images of val."""

    features: tuple[np.ndarray, ...]  # of each class, float32 [n, d], `cxr` space
    ms_ssim: tuple[float, ...]  # mean within each class
    classifier: Any  # params of the label classifier
    class_names: tuple[str, ...]


def make_reference(dataset: Dataset) -> Reference | None:
    """Encodes val, and fits the label classifier if it is not cached.

    None, with a warning, where val has too few images of a class.
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
    by_class = [
        val.images[val.labels == c][:IMAGES_PER_CLASS] for c in range(len(names))
    ]
    return Reference(
        features=tuple(cxr_encoder.features(images) for images in by_class),
        ms_ssim=tuple(mean_ms_ssim(images) for images in by_class),
        classifier=load_or_fit(dataset.train, len(names)),
        class_names=names,
    )


def validation_metrics(
    reference: Reference, images: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Metrics of generated images, uint8 [n, s, s, 1] of classes int [n].

    Returns:
        Each of these by class (key/CLASS) and as the mean over classes (key):
        eval/kid: squared maximum mean discrepancy to val of the same class, in `cxr`
            space; unbiased, so it can be slightly negative.
        eval/label_accuracy: fraction in [0, 1] that the label classifier assigns to the
            class that was asked for.
        eval/ms_ssim_excess: mean MS-SSIM within the class minus that within val; 0
            means equally varied, above 0 less varied.
    """
    metrics: dict[str, float] = {}
    for label, name in enumerate(reference.class_names):
        own = images[labels == label]
        predicted = label_classifier.predict(reference.classifier, own).argmax(1)
        real = reference.features[label]
        metrics[f"eval/kid/{name}"] = kid.mmd2(cxr_encoder.features(own), real)
        metrics[f"eval/label_accuracy/{name}"] = float((predicted == label).mean())
        excess = mean_ms_ssim(own) - reference.ms_ssim[label]
        metrics[f"eval/ms_ssim_excess/{name}"] = excess
    for key in ("eval/kid", "eval/label_accuracy", "eval/ms_ssim_excess"):
        by_class = [metrics[f"{key}/{name}"] for name in reference.class_names]
        metrics[key] = float(np.mean(by_class))
    return metrics


def mean_ms_ssim(images: np.ndarray) -> float:
    """Mean MS-SSIM of pairs of uint8 [n, s, s, 1], at the scales that suit s."""
    return ms_ssim.mean_pairwise(images, SEED, PAIRS)
