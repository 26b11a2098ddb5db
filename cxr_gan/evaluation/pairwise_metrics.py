"""Distances between two sets in a feature space, with real-data references."""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxr_gan.evaluation.image_sets import MIN_TRUSTED_PER_CLASS, EvaluationContext
from cxr_gan.evaluation.metrics import (
    confidence_intervals,
    frechet,
    kid,
    precision_recall,
)
from cxr_gan.evaluation.results import POOLED, Estimate, Estimates, MetricKey

DRAWS = 40  # subsamples for one interval
NEIGHBOURS = 5  # k of precision, recall, density and coverage

# Sets that contribute equally many images -> pairs that are compared. The first set of
# a pair takes the place of the generated images, the second that of the real ones.
COMPARISONS = {
    ("generated", "A", "B"): ("generated~B", "A~B", "generated~A", "B~A"),
    ("generated", "A", "B", "val"): ("generated~val", "A~val", "B~val"),
}


class Distance(NamedTuple):
    """One way to compare features; it may yield several metrics."""

    names: tuple[str, ...]  # of the metrics
    function: Callable[[np.ndarray, np.ndarray], float | tuple[float, ...]]
    min_per_class: int  # images of each class
    min_per_feature: int  # images in total, per feature dimension
    limits: tuple[tuple[float, float], ...]  # of each metric; its interval is clipped


def pairwise_distances(context: EvaluationContext, space: str) -> Estimates:
    """All distances of all pairs of sets, for each class and pooled over classes.

    Within a comparison every set contributes equally many images, selected by the seed,
    so that a metric and its real-data reference have the same bias.

    Args:
        context: the sets and the feature spaces.
        space: name of one of the feature spaces.

    Raises:
        ValueError: features are not finite.
    """
    estimates: Estimates = {}
    features = context.features(space)
    for names, pairs in COMPARISONS.items():
        for group, labels in context.label_groups.items():
            n = context.min_count(labels, names)
            for pair in pairs:
                for metric, estimate in pair_distances(
                    context, features, pair, labels, n
                ):
                    estimates[MetricKey(metric, space, group, pair)] = estimate
    return estimates | kid_in_class_units(context, space, estimates)


def kid_in_class_units(
    context: EvaluationContext, space: str, estimates: Estimates
) -> Estimates:
    """Pooled KID divided by the mean KID between the real classes of half B.

    At 1, generated images are as far from real images as one class is from another.
    Where the classes are no farther apart than A is from B by chance, the unit is the
    width of the interval of the KID of A and B.
    """
    features, labels = context.features(space)["B"], context.image_groups["B"].labels
    by_class = [features[labels == label] for label in range(len(context.class_names))]
    between = np.mean([kid.mmd2(a, b) for a, b in itertools.combinations(by_class, 2)])
    chance = estimates[MetricKey("kid", space, POOLED, "A~B")]
    unit = max(float(between), chance.high - chance.low)
    return {
        key._replace(metric="kid_in_classes"): estimate._replace(
            value=estimate.value / unit,
            low=estimate.low / unit,
            high=estimate.high / unit,
        )
        for key, estimate in estimates.items()
        if key.metric == "kid" and key.group == POOLED
    }


def pair_distances(
    context: EvaluationContext,
    features: dict[str, np.ndarray],
    pair: str,
    labels: tuple[int, ...],
    n: int,
) -> list[tuple[str, Estimate]]:
    """Every distance of one pair of sets, from n images of each label in each set.

    Intervals are from `confidence_intervals.subsample`, with half of the patients of
    each set and class.
    """
    names = pair.split("~")
    selected = [context.select(name, labels, n) for name in names]
    image_groups = [context.image_groups[name] for name in names]
    patients, strata = [], []
    for index, (group, rows) in enumerate(zip(image_groups, selected, strict=True)):
        patients.append(group.patients[rows])
        strata.append(group.labels[rows] + index * len(context.class_names))
    x, y = (features[name][rows] for name, rows in zip(names, selected, strict=True))
    estimates = []
    for distance in DISTANCES:
        too_few_in_class = n < distance.min_per_class
        if too_few_in_class or len(x) < distance.min_per_feature * x.shape[1]:
            continue

        def statistic(
            drawn: np.ndarray, distance: Distance = distance
        ) -> float | tuple[float, ...]:
            first, second = drawn[drawn < len(x)], drawn[drawn >= len(x)] - len(x)
            return distance.function(x[first], y[second])

        intervals = confidence_intervals.subsample(
            statistic,
            np.concatenate(patients),
            strata=np.concatenate(strata),
            draws=DRAWS,
            seed=context.seed,
        )
        for name, limits, (value, *ends) in zip(
            distance.names, distance.limits, np.atleast_2d(intervals.T), strict=True
        ):
            low, high = np.clip(ends, *limits).tolist()
            estimate = Estimate(float(value), low, high, len(x), context.seed)
            estimates.append((name, estimate))
    return estimates


def spacing(a: np.ndarray, b: np.ndarray) -> float:
    """Median distance to the nearest neighbour within a, divided by that within b.

    Near 1 for sets of equal size and diversity; near 0 where images of a repeat. a is
    float [n, d], b is float [m, d]; n and m are at least 2.
    """
    medians = []
    for x in (a, b):
        squared = precision_recall.squared_distances(x, x)
        np.fill_diagonal(squared, np.inf)
        medians.append(np.median(np.sqrt(squared.min(1))))
    return float(medians[0] / max(medians[1], np.finfo(np.float32).tiny))


_INFINITY = float("inf")
_NON_NEGATIVE, _SHARE = (0.0, _INFINITY), (0.0, 1.0)

# To add a metric that compares features, add one entry here.
DISTANCES = (
    Distance(
        ("fid",),
        frechet.frechet_distance,
        MIN_TRUSTED_PER_CLASS,
        frechet.LEAST_PER_FEATURE,
        (_NON_NEGATIVE,),
    ),
    Distance(("kid",), kid.mmd2, 2, 0, ((-_INFINITY, _INFINITY),)),
    Distance(
        precision_recall.Prdc._fields,
        functools.partial(precision_recall.prdc, k=NEIGHBOURS),
        MIN_TRUSTED_PER_CLASS,
        0,
        (_SHARE, _SHARE, _NON_NEGATIVE, _SHARE),
    ),
    Distance(("spacing",), spacing, MIN_TRUSTED_PER_CLASS, 0, (_NON_NEGATIVE,)),
)
