"""Results of the utility test, as estimates and for JSON."""

from typing import Any

import numpy as np

from cxr_gan.evaluation.results import (
    POOLED,
    Estimate,
    Estimates,
    MetricKey,
    rounded,
)
from cxr_gan.evaluation.utility import auroc
from cxr_gan.evaluation.utility.training_sets import GENERATED, THEN_REAL

METHOD = (
    "Classifiers with the architecture of the label classifier ({seeds} seeds, {steps} "
    "steps of 32 images for every variant), tested on val, which shares no image with "
    "train. Before few real images, half of the steps use generated images; optimizer "
    "and learning rate then start again. Images are those of the last part. The 95 % "
    "intervals resample patients of each class and seeds, with the same draws for both "
    "terms of a difference. The smallest detectable difference is 2.80 standard "
    "errors: a two-sided test at 5 % has 80 % power there (Bloom 1995). No correction "
    "is made for multiple comparisons. The baseline is the best variant without "
    "generated images; it is chosen on val, which favours it. Seeds determine the "
    "training of classifiers and the images sampled; the generator was trained once, "
    "and another training run may give other results."
)
IN_PLACE, ADDED = "in place of real images", "added to few real images"
BEFORE = "before few real images"
WITH_GENERATED = (GENERATED, THEN_REAL)  # one of them in each comparison
# Question -> metric, sets of its estimate, sets of its reference.
METRIC_KEYS = {
    IN_PLACE: ("auroc", "trained on generated", "trained on real"),
    BEFORE: ("auroc_after", "generated, then few", "few"),
    ADDED: ("auroc_few", "few and generated", "few, best without"),
}


def baseline_of(aurocs: dict[str, np.ndarray]) -> str:
    """The best variant without generated images.

    Args:
        aurocs: variant -> result of `auroc.mean_auroc`.
    """
    without_generated = [name for name in aurocs if name not in WITH_GENERATED]
    return max(without_generated, key=lambda name: aurocs[name][0])


def estimates_of(
    question: str, view: str, aurocs: dict[str, np.ndarray], n: int, seed: int
) -> Estimates:
    """AUROC with generated images; the reference is the AUROC of the baseline.

    `n` is the number of images of val.
    """
    metric, generated, reference = METRIC_KEYS[question]
    estimates: Estimates = {}
    (tested,) = (name for name in aurocs if name in WITH_GENERATED)
    for name, sets in ((tested, generated), (baseline_of(aurocs), reference)):
        value, low, high, _ = auroc.estimate(aurocs[name])
        estimate = Estimate(value, low, high, n, seed)
        estimates[MetricKey(metric, view, POOLED, sets)] = estimate
    return estimates


def comparison(
    question: str,
    view: str,
    aurocs: dict[str, np.ndarray],
    counts: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """JSON of variants that differ in the training set only, and of their baseline.

    Args:
        question: IN_PLACE, BEFORE or ADDED.
        view: the part of each image that classifiers see, or the number of images.
        aurocs: variant -> result of `auroc.mean_auroc`.
        counts: variant -> training images of each class.
    """
    baseline = baseline_of(aurocs)
    variants = []
    for name, values in aurocs.items():
        row: dict[str, Any] = {
            "variant": name,
            "counts": counts[name],
            "auroc": rounded(auroc.estimate(values)._asdict()),
            "words": "baseline of the differences",
        }
        if name != baseline:
            difference = auroc.estimate(values - aurocs[baseline])
            smallest = auroc.detectable_difference(difference.error)
            row["words"] = auroc.describe(difference, baseline)
            row["difference"] = rounded(difference._asdict())
            row |= rounded({"detectable": smallest})
        variants.append(row)
    return {
        **{"question": question, "view": view, "baseline": baseline},
        "variants": variants,
    }
