"""What a run is judged by while it trains: its images beside those of val.

Cheap figures, by which checkpoints of one run compare; `evaluation` says how good a
model is. They are of few images and have no floors.
"""

from typing import NamedTuple

import numpy as np
from absl import logging

from cxr_gan.data.sets import Dataset
from cxr_gan.judges import judge_of
from cxr_gan.metrics import encoder, fidelity, kid, ssim

PER_CLASS = 250  # images of a class, at most, generated as well as real
LEAST_REAL = 20  # images of each class in val
PAIRS = 200  # of a class, whose MS-SSIM is taken
SEED = 0  # of which pairs
BEST = "eval/kid"  # the figure of the best checkpoint: the lowest


class Reference(NamedTuple):
    """The real images of val that generated ones are compared with."""

    features: tuple[np.ndarray, ...]  # of each class, float32 [n, d], `cxr` space
    likeness: tuple[float, ...]  # mean MS-SSIM within each class
    judge: fidelity.Judge
    class_names: tuple[str, ...]


def reference_of(dataset: Dataset) -> Reference | None:
    """Reads val's features; fits the judge of classes, if none is kept.

    None, with a warning, where val has too few images of a class to say anything.
    """
    val, names = dataset.val, dataset.class_names
    fewest = val.counts(len(names)).min()
    if fewest < LEAST_REAL:
        logging.warning(
            "val has only %d images of a class: without %d of each the run is not "
            "evaluated, and has no best checkpoint",
            fewest,
            LEAST_REAL,
        )
        return None
    by_class = [val.images[val.labels == c][:PER_CLASS] for c in range(len(names))]
    return Reference(
        features=tuple(encoder.features(images) for images in by_class),
        likeness=tuple(likeness(images) for images in by_class),
        judge=judge_of(dataset.train, len(names)),
        class_names=names,
    )


def figures(
    reference: Reference, images: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Generated images, uint8 [n, s, s, 1] of classes int [n], beside val.

    Returns:
        eval/kid: squared maximum mean discrepancy in `cxr` space; of each class with
            val's, and their mean, for which labels must be right, too.
        eval/fidelity: share whose class the judge gives back; of each class, and mean.
        eval/repetition: MS-SSIM within a class less that within val's; 0 is as varied,
            above is less.
    """
    found: dict[str, float] = {}
    for label, name in enumerate(reference.class_names):
        some = images[labels == label]
        given_back = fidelity.classify(reference.judge, some).argmax(1) == label
        real = reference.features[label]
        found[f"eval/kid/{name}"] = kid.mmd2(encoder.features(some), real)
        found[f"eval/fidelity/{name}"] = float(given_back.mean())
        found[f"eval/repetition/{name}"] = likeness(some) - reference.likeness[label]
    for key in ("eval/kid", "eval/fidelity", "eval/repetition"):
        of_classes = [found[f"{key}/{name}"] for name in reference.class_names]
        found[key] = float(np.mean(of_classes))
    return found


def likeness(images: np.ndarray) -> float:
    """Mean MS-SSIM of pairs of uint8 [n, s, s, 1], at as many scales as suit s."""
    unit = images.astype(np.float32) / 255
    mean, _ = ssim.mean_pairwise(unit, SEED, PAIRS, ssim.scales_for(images.shape[1]))
    return mean
