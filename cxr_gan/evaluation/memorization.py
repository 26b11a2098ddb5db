"""Measures whether generated images are copies of training images.

The searches are those of `metrics.nearest_neighbours` and `metrics.pixel_search`, the
thresholds those of the former.
"""

import numpy as np

from cxr_gan.evaluation.image_sets import EvaluationContext, first_equal
from cxr_gan.evaluation.metrics import (
    confidence_intervals,
    nearest_neighbours,
    pixel_search,
)
from cxr_gan.evaluation.per_set_metrics import DRAWS, share_estimate
from cxr_gan.evaluation.results import POOLED, Estimate, Estimates, MetricKey

SETS, REFERENCE_SETS = "generated~train", "val~train"
VIEWS: dict[str, nearest_neighbours.Search] = {
    "cxr": nearest_neighbours.nearest,
    "pixels": pixel_search.nearest_in_any_pose,
}


# Generated index, index into half A followed by half B, and distance; nearest first.
NearestPairs = list[tuple[int, int, float]]


def memorization_metrics(
    context: EvaluationContext,
) -> tuple[Estimates, dict[str, NearestPairs]]:
    """Distances from generated images to training images, compared with those of val.

    In each view the real-data references follow from the definitions: ratio 1, share
    0.01 for `below_first_percentile`, no copies. Their intervals have no width, except
    that of `below_first_percentile`, which is the uncertainty of the first percentile
    of as many images as val has. Bit-identical copies are counted in val as well.

    Returns:
        The estimates, and the nearest pairs of each view.
    """
    estimates: Estimates = {}
    nearest_pairs: dict[str, NearestPairs] = {}
    groups = context.image_groups
    train_patients = np.concatenate([groups["A"].patients, groups["B"].patients])
    # An image that was generated ten times is no more evidence of copying than one
    # that was generated once: equal images are resampled together, as a patient is.
    duplicates = first_equal(groups["generated"].images)
    for view, search in VIEWS.items():
        x = vectors(context, view)
        audit = nearest_neighbours.audit(
            x["generated"],
            np.concatenate([x["A"], x["B"]]),
            x["val"],
            patients=(groups["val"].patients, train_patients),
            search=search,
        )
        for metric, pair in audit_estimates(audit, context, duplicates).items():
            for sets, estimate in zip((SETS, REFERENCE_SETS), pair, strict=True):
                estimates[MetricKey(metric, view, POOLED, sets)] = estimate
        nearest_pairs[view] = [
            (i, j, float(audit.nearest.distance[i])) for i, j in audit.worst.tolist()
        ]
    train = np.concatenate([groups["A"].images, groups["B"].images])
    for name, sets in (("generated", SETS), ("val", REFERENCE_SETS)):
        hits = nearest_neighbours.same_bytes(groups[name].images, train)
        estimate = count_estimate(hits, groups[name].patients, context.seed)
        estimates[MetricKey("exact_copies", "bytes", POOLED, sets)] = estimate
    return estimates, nearest_pairs


def audit_estimates(
    audit: nearest_neighbours.Audit, context: EvaluationContext, duplicates: np.ndarray
) -> dict[str, tuple[Estimate, Estimate]]:
    """Metric -> its estimate and its real-data reference.

    `duplicates` is the result of `first_equal` for the generated images.
    """
    generated, seed = context.image_groups["generated"], context.seed
    distance = audit.nearest.distance
    n, num_val = len(distance), len(context.image_groups["val"])
    scale = audit.ratio / np.median(distance) if np.median(distance) else 0.0
    _, low, high = confidence_intervals.bootstrap(
        lambda i: float(np.median(distance[i]) * scale),
        generated.patients,
        draws=DRAWS,
        seed=seed,
    ).tolist()

    def by_definition(value: float) -> Estimate:
        return Estimate(value, value, value, num_val, seed)

    below_low, below_high = nearest_neighbours.share_below_percentile(num_val)
    return {
        "distance_ratio": (
            Estimate(audit.ratio, low, high, n, seed),
            by_definition(1.0),
        ),
        "below_first_percentile": (
            share_estimate(audit.below, duplicates, seed),
            by_definition(0.01)._replace(low=below_low, high=below_high),
        ),
        "exact_copies": (
            count_estimate(audit.exact, duplicates, seed),
            by_definition(0.0),
        ),
        "near_copies": (
            count_estimate(audit.near, duplicates, seed),
            by_definition(0.0),
        ),
    }


def count_estimate(hits: np.ndarray, patients: np.ndarray, seed: int) -> Estimate:
    """Number of hits among n images; the interval is n times that of the share."""
    share = share_estimate(hits, patients, seed)
    n = len(hits)
    return Estimate(float(hits.sum()), n * share.low, n * share.high, n, seed)


def vectors(context: EvaluationContext, view: str) -> dict[str, np.ndarray]:
    """Vectors of each set in one view; float [n, d]."""
    if view != "pixels":
        return context.features(view)
    return {
        name: pixel_search.pixel_vectors(group.images)
        for name, group in context.image_groups.items()
    }
