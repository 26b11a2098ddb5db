"""Metrics other than feature distances: sharpness, label accuracy, diversity."""

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from cxr_gan.evaluation.image_sets import EvaluationContext, first_equal
from cxr_gan.evaluation.metrics import (
    confidence_intervals,
    label_classifier,
    ms_ssim,
    power_spectrum,
)
from cxr_gan.evaluation.results import HEADLINE, POOLED, Estimate, Estimates, MetricKey

DRAWS = 200  # bootstrap draws; too few for interval limits that are quoted
PAIRS = 4_000  # pairs of a class for MS-SSIM; all pairs if there are fewer


def power_difference(context: EvaluationContext) -> Estimates:
    """Power in each octave and of each alternation, generated minus B; in dB.

    By class. The real-data reference is A minus B. All sets contribute equally many
    images. Intervals are from `confidence_intervals.bootstrap` over both sets.
    """
    estimates: Estimates = {}
    profiles = {
        name: power_spectrum.profiles(context.image_groups[name].images)
        for name in ("generated", "A", "B")
    }
    size = context.image_groups["B"].images.shape[1]
    for label, class_name in enumerate(context.class_names):
        n = context.min_count((label,), tuple(profiles))
        for pair in (HEADLINE, "A~B"):
            names = pair.split("~")
            rows = {name: context.select(name, (label,), n) for name in names}
            both = np.concatenate([profiles[name][rows[name]] for name in names])
            patients = [
                context.image_groups[name].patients[rows[name]] for name in names
            ]
            intervals = confidence_intervals.bootstrap(
                functools.partial(_band_difference, both, n, size),
                np.concatenate(patients),
                draws=DRAWS,
                seed=context.seed,
            )
            columns = intervals.T.tolist()
            for band, (value, low, high) in zip(bands(size), columns, strict=True):
                estimate = Estimate(value, low, high, n, context.seed)
                estimates[MetricKey(*band, class_name, pair)] = estimate
    return estimates


def _band_difference(
    profiles: np.ndarray, n: int, size: int, drawn: np.ndarray
) -> np.ndarray:
    """dB in each band: drawn rows below n minus drawn rows from n on."""
    first, second = (
        power_spectrum.bands(profiles[rows].mean(0), size)
        for rows in (drawn[drawn < n], drawn[drawn >= n])
    )
    return first - second


def bands(size: int) -> list[tuple[str, str]]:
    """Metric and space of each value of `power_spectrum.bands`.

    Octaves have names such as "1/4-1/2", the lowest first.
    """
    edges = [f"1/{round(1 / edge)}" for edge in power_spectrum.octave_edges(size)]
    octaves = [("power", f"{low}-{high}") for low, high in itertools.pairwise(edges)]
    return octaves + [("alternation", axis) for axis in power_spectrum.ALTERNATIONS]


def label_accuracy(context: EvaluationContext) -> Estimates:
    """Share of images whose label the classifier predicts; also for val and A.

    The value of a class is over all of its images, the pooled value over equally many
    images of each class. Intervals are from `confidence_intervals.share_interval`.
    """
    estimates: Estimates = {}
    for name in ("generated", "val", "A"):
        group = context.image_groups[name]
        predicted = label_classifier.predict(context.classifier, group.images).argmax(1)
        hits = predicted == group.labels
        for label_group, labels in context.label_groups.items():
            n = context.min_count(labels, (name,))
            rows = context.select(name, labels, n)
            key = MetricKey("label_accuracy", "classifier", label_group, name)
            estimates[key] = share_estimate(
                hits[rows], group.patients[rows], context.seed
            )
    return estimates


def share_estimate(hits: np.ndarray, patients: np.ndarray, seed: int) -> Estimate:
    """Share of images that are hits; the interval is [0, 1] for a single patient."""
    if len(np.unique(patients)) < 2:
        return Estimate(float(hits.mean()), 0.0, 1.0, len(hits), seed)
    ends = confidence_intervals.share_interval(hits, patients, draws=DRAWS, seed=seed)
    return Estimate(float(hits.mean()), *ends, len(hits), seed)


def ms_ssim_difference(context: EvaluationContext) -> Estimates:
    """Mean MS-SSIM of pairs within a class: generated minus A and B together.

    Above 0, generated images are less diverse than real ones. The real-data reference
    is A minus B. Intervals are from `confidence_intervals.subsample` over both sets. A
    subsample of half of the images has a quarter of the pairs, so the intervals are
    conservative (too wide).
    """
    estimates: Estimates = {}
    for label, class_name in enumerate(context.class_names):
        similarities = {
            names: _pair_similarities(context, names.split("+"), label)
            for names in ("generated", "A+B", "A", "B")
        }
        for pair in ("generated~A+B", "A~B"):
            first, second = (similarities[name] for name in pair.split("~"))
            estimate = _mean_difference(first, second, context.seed)
            estimates[MetricKey("ms_ssim", "pairs", class_name, pair)] = estimate
    return estimates


# MS-SSIM of each pair, its indices i and j, and the patient of each image.
PairSimilarities = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _pair_similarities(
    context: EvaluationContext, names: Sequence[str], label: int
) -> PairSimilarities:
    """MS-SSIM of random pairs of images of one class, from the union of the sets."""
    image_groups = [context.image_groups[name] for name in names]
    images = np.concatenate(
        [group.images[group.labels == label] for group in image_groups]
    )
    patients = np.concatenate(
        [group.patients[group.labels == label] for group in image_groups]
    )
    first, second = ms_ssim.draw_pairs(len(images), context.seed, PAIRS)
    similarities = ms_ssim.pair_similarities(images, first, second)
    return similarities, first, second, patients


def _mean_difference(a: PairSimilarities, b: PairSimilarities, seed: int) -> Estimate:
    """Difference of the mean similarities of a and b."""
    n, m = len(a[3]), len(b[3])

    def statistic(drawn: np.ndarray) -> float:
        in_subsample = np.zeros(n + m, bool)
        in_subsample[drawn] = True
        return _mean(a, in_subsample[:n]) - _mean(b, in_subsample[n:])

    value, low, high = confidence_intervals.subsample(
        statistic,
        np.concatenate([a[3], b[3]]),
        strata=np.repeat([0, 1], [n, m]),
        draws=confidence_intervals.LEAST_DRAWS,
        seed=seed,
    ).tolist()
    return Estimate(value, low, high, min(n, m), seed)


def _mean(pairs: PairSimilarities, in_subsample: np.ndarray) -> float:
    """Mean over pairs with both images in the subsample; over all if there are none."""
    values, first, second, _ = pairs
    kept = in_subsample[first] & in_subsample[second]
    return float(values[kept].mean() if kept.any() else values.mean())


def repeated(context: EvaluationContext) -> Estimates:
    """Share of images that are bit-identical to an earlier image of their own set.

    It is 0 for val, because exact duplicates were removed.
    """
    estimates: Estimates = {}
    for name in ("generated", "val"):
        group = context.image_groups[name]
        hits = first_equal(group.images) != np.arange(len(group))
        key = MetricKey("repeated", "bytes", POOLED, name)
        estimates[key] = share_estimate(hits, group.patients, context.seed)
    return estimates


# To add a metric with a real-data reference that is not a feature distance, add one
# entry here.
PER_SET_METRICS: dict[str, Callable[[EvaluationContext], Estimates]] = {
    "power": power_difference,
    "label_accuracy": label_accuracy,
    "ms_ssim": ms_ssim_difference,
    "repeated": repeated,
}
