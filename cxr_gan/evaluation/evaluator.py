"""Evaluation of one set of generated images against one real data set.

Pure functions of arrays: equal arguments give equal results.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tqdm

from cxr_gan.evaluation import verdict
from cxr_gan.evaluation.image_sets import (
    EvaluationContext,
    ImageGroup,
    ReferenceSplits,
)
from cxr_gan.evaluation.membership import SETS as TARGET_SETS
from cxr_gan.evaluation.membership import Target, membership
from cxr_gan.evaluation.memorization import NearestPairs, memorization_metrics
from cxr_gan.evaluation.metrics import feature_spaces
from cxr_gan.evaluation.metrics.feature_spaces import FeatureSpace
from cxr_gan.evaluation.metrics.nearest_neighbours import same_bytes
from cxr_gan.evaluation.pairwise_metrics import pairwise_distances
from cxr_gan.evaluation.per_set_metrics import PER_SET_METRICS
from cxr_gan.evaluation.results import POOLED, Estimates, MetricKey

COPY_SPACE = "cxr"  # always opened: copies are searched in it


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Everything an evaluation computes."""

    estimates: Estimates
    nearest_pairs: dict[str, NearestPairs]  # by view, "cxr" or "pixels"
    notes: list[str]  # warnings and remarks
    faults: list[str]  # in words; empty if there are none

    @property
    def verdict(self) -> str:
        """The last line of a report: "verdict: ..."."""
        return f"verdict: {'; '.join(self.faults) or verdict.NONE}"


def evaluate(
    images: np.ndarray,
    labels: np.ndarray,
    real: ReferenceSplits,
    *,
    spaces: Sequence[FeatureSpace],
    classifier: Any,
    seed: int,
    target: Target | None = None,
) -> EvaluationResult:
    """Compares images with a real data set, and parts of that data set with each other.

    Args:
        images: uint8 [n, s, s, 1], s at least 32 and equal to that of the real images.
        labels: int [n], the classes the images were generated for.
        real: the real data set, from `image_sets.split_reference`.
        spaces: feature spaces in which distances are computed.
        classifier: params of a label classifier trained on half B of `real`.
        seed: selects the images that are compared, and the draws of every interval.
        target: of membership inference, which takes a minute; None for none.

    Raises:
        ValueError: a set has fewer than 10 images of a class; more than half of the
            images are bit-identical to images of the data set; sizes differ.
    """
    requested = {space.name: space for space in spaces}
    opened = {COPY_SPACE: feature_spaces.open_space(COPY_SPACE), **requested}
    image_groups = {
        "generated": ImageGroup.from_generated(images, labels),
        **real.image_groups(),
    }
    context = EvaluationContext(
        image_groups, real.class_names, seed, opened, classifier
    )
    notes = [*check_images(images, real), *context.check()]
    jobs: dict[str, Callable[[EvaluationContext], Estimates]] = {
        f"distances in {name}": functools.partial(pairwise_distances, space=name)
        for name in requested
    }
    jobs |= PER_SET_METRICS
    estimates: Estimates = {}
    bar = tqdm.tqdm(jobs.items(), "Evaluating", disable=None, delay=2)
    for name, job in bar:
        bar.set_postfix_str(name)
        estimates |= job(context)
    copy_estimates, nearest_pairs = memorization_metrics(context)
    estimates |= copy_estimates
    if target is not None:
        estimates |= membership(context, target)
    faults = verdict.find_faults(estimates, real.class_names)
    notes += remarks(estimates, 1 / len(real.class_names))
    return EvaluationResult(estimates, nearest_pairs, notes, faults)


def check_images(images: np.ndarray, real: ReferenceSplits) -> list[str]:
    """Warnings about exact duplicates.

    Raises:
        ValueError: more than half of the images are bit-identical to images of the data
            set, or the sizes differ.
    """
    sizes = images.shape[1:], real.train.images.shape[1:]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"images are {list(sizes[0])}, real ones {list(sizes[1])}; load the data "
            "set at the resolution of the images"
        )
    all_real = np.concatenate([real.train.images, real.val.images])
    count = int(same_bytes(images, all_real).sum())
    if count > len(images) / 2:
        raise ValueError(
            f"{count} of {len(images)} images are bit-identical to images of the data "
            "set; give generated images: real ones would only be compared with "
            "themselves"
        )
    notes = []
    if real.dropped:
        notes.append(
            f"{real.dropped} images of the data set are bit-identical to others of it "
            "and were dropped"
        )
    if count:
        notes.append(f"{count} images are bit-identical to images of the data set")
    return notes


def remarks(estimates: Estimates, chance: float) -> list[str]:
    """Observations that are not faults; `chance` is 1 / number of classes."""
    notes = []
    key = MetricKey("label_accuracy", "classifier", POOLED, "generated")
    generated, val = estimates[key], estimates[key._replace(sets="val")]
    if not verdict.classifier_is_reliable(val, chance):
        notes.append(
            f"the label classifier is correct on only {val.value:.0%} of val: labels "
            "are not assessed"
        )
    elif generated.low > val.high:
        notes.append(
            f"the label classifier agrees with {generated.value:.0%} of the generated "
            f"labels and {val.value:.0%} of those of val: the images are more typical "
            "of their class than real images"
        )
    attack = estimates.get(
        MetricKey("membership_auroc", "discriminator", POOLED, TARGET_SETS)
    )
    if attack is not None and attack.low > 0.5:
        notes.append(
            "the discriminator distinguishes training patients from others, AUROC "
            f"{attack.value:.2f}: do not share the training state if nobody may "
            "learn who was in the training"
        )
    return notes


def exceeds_copy_limit(report: dict[str, Any], max_share: float) -> bool:
    """Whether the generated images of a report contain more copies than allowed.

    True if any view has an exact or a near copy, or if in any view the share of images
    that are nearer to a training image than 99 % of val exceeds `max_share`.
    """
    limits = {"exact_copies": 0, "near_copies": 0, "below_first_percentile": max_share}
    return any(
        row["value"] > limits[row["metric"]]
        for row in report["metrics"]
        if row["metric"] in limits and row["sets"] == "generated~train"
    )
