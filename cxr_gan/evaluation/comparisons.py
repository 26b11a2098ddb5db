"""How far two sets are apart in a space of features, and how far real ones are."""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxr_gan.evaluation.draws import together
from cxr_gan.evaluation.figures import POOLED, Figure, Figures, Key
from cxr_gan.evaluation.sides import LEAST_TRUSTED, Evidence
from cxr_gan.metrics import frechet, intervals, kid, prdc

DRAWS = 40  # of an interval
NEIGHBOURS = 5  # k of precision to coverage

# Sets that are compared in equal numbers -> pairs of them: the first in place of
# generated images, the second of real ones.
ROUNDS = {
    ("generated", "A", "B"): ("generated~B", "A~B", "generated~A", "B~A"),
    ("generated", "A", "B", "val"): ("generated~val", "A~val", "B~val"),
}


class Distance(NamedTuple):
    """One way to compare features; it may have several figures."""

    names: tuple[str, ...]  # of the figures
    function: Callable[[np.ndarray, np.ndarray], tuple[float, ...]]
    per_class: int  # images of each class that it takes at least
    per_feature: int  # images in all, for each dimension
    limits: tuple[tuple[float, float], ...]  # of each figure: an interval is cut there


def compare(evidence: Evidence, space: str) -> Figures:
    """All pairs of sets, class by class and pooled, with their floors.

    In a round every set gives equally many images, drawn by the seed, so that a figure
    and its floor have the same bias.

    Args:
        evidence: the sets, and the spaces they are seen in.
        space: the name of one.

    Raises:
        ValueError: features are not finite.
    """
    found: Figures = {}
    features = evidence.features(space)
    for names, pairs in ROUNDS.items():
        for group, labels in evidence.groups.items():
            n = evidence.least(labels, names)
            for pair in pairs:
                for metric, figure in between(evidence, features, pair, labels, n):
                    found[Key(metric, space, group, pair)] = figure
    return found | in_classes(evidence, space, found)


def in_classes(evidence: Evidence, space: str, found: Figures) -> Figures:
    """KID of all classes, in units of that between the real classes (of B, their mean).

    1 is as far from real images as a class is from another: a measure every reader of
    radiographs has. Where classes are no farther apart than chance puts A from B, the
    unit is the width of that interval.
    """
    features, labels = evidence.features(space)["B"], evidence.sides["B"].labels
    lots = [features[labels == label] for label in range(len(evidence.class_names))]
    apart = np.mean([kid.mmd2(a, b) for a, b in itertools.combinations(lots, 2)])
    chance = found[Key("kid", space, POOLED, "A~B")]
    unit = max(float(apart), chance.high - chance.low)
    return {
        key._replace(metric="kid_in_classes"): figure._replace(
            value=figure.value / unit, low=figure.low / unit, high=figure.high / unit
        )
        for key, figure in found.items()
        if key.metric == "kid" and key.group == POOLED
    }


def between(
    evidence: Evidence,
    features: dict[str, np.ndarray],
    pair: str,
    labels: tuple[int, ...],
    n: int,
) -> list[tuple[str, Figure]]:
    """Every distance of one pair, n images of each label on both sides.

    Intervals by `intervals.subsample`: half of the patients of each set and class.
    """
    names = pair.split("~")
    chosen = [evidence.pick(name, labels, n) for name in names]
    sides = [evidence.sides[name] for name in names]
    groups, strata = [], []
    for number, (side, rows) in enumerate(zip(sides, chosen, strict=True)):
        groups.append(side.patients[rows])
        strata.append(side.labels[rows] + number * len(evidence.class_names))
    x, y = (features[name][rows] for name, rows in zip(names, chosen, strict=True))
    interval = functools.partial(
        intervals.subsample,
        groups=np.concatenate(groups),
        strata=np.concatenate(strata),
        draws=DRAWS,
        seed=evidence.seed,
    )
    found = []
    for distance in DISTANCES:
        if n < distance.per_class or len(x) < distance.per_feature * x.shape[1]:
            continue

        def of(drawn: np.ndarray, distance: Distance = distance) -> tuple[float, ...]:
            first, second = drawn[drawn < len(x)], drawn[drawn >= len(x)] - len(x)
            return distance.function(x[first], y[second])

        ends = together(of, len(x) + len(y), interval)
        for name, limits, (value, *of_95) in zip(
            distance.names, distance.limits, ends, strict=True
        ):
            low, high = np.clip(of_95, *limits)
            figure = Figure(value, float(low), float(high), len(x), evidence.seed)
            found.append((name, figure))
    return found


def spacing(a: np.ndarray, b: np.ndarray) -> float:
    """Median distance to the nearest other image of the set: that of a over that of b.

    Near 1 for sets of the same variety and number, towards 0 where a repeats itself.
    a float [n, d], b float [m, d], n and m at least 2.
    """
    medians = []
    for x in (a, b):
        squared = prdc.squared_distances(x, x)
        np.fill_diagonal(squared, np.inf)
        medians.append(np.median(np.sqrt(squared.min(1))))
    return float(medians[0] / max(medians[1], np.finfo(np.float32).tiny))


_INFINITY = float("inf")
_POSITIVE, _SHARE = (0.0, _INFINITY), (0.0, 1.0)

# To add a metric that compares features, add it here.
DISTANCES = (
    Distance(
        ("fid",),
        lambda a, b: (frechet.frechet_distance(a, b),),
        LEAST_TRUSTED,
        frechet.LEAST_PER_FEATURE,
        (_POSITIVE,),
    ),
    Distance(
        ("kid",), lambda a, b: (kid.mmd2(a, b),), 2, 0, ((-_INFINITY, _INFINITY),)
    ),
    Distance(
        prdc.Prdc._fields,
        functools.partial(prdc.prdc, k=NEIGHBOURS),
        LEAST_TRUSTED,
        0,
        (_SHARE, _SHARE, _POSITIVE, _SHARE),
    ),
    Distance(
        ("spacing",), lambda a, b: (spacing(a, b),), LEAST_TRUSTED, 0, (_POSITIVE,)
    ),
)
