"""Distribution of phantom parameters ("factors") among generated phantom images.

The factors of a generated image are taken to be those of its nearest phantom of half B,
whose factors the renderer knows; likewise for half A, which gives the real-data
reference. The metric is the total variation distance from the distribution of the
factor in B itself: 0 for equal distributions, 1 for disjoint ones.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation.image_sets import EvaluationContext
from cxr_gan.evaluation.metrics import confidence_intervals, nearest_neighbours
from cxr_gan.evaluation.per_set_metrics import DRAWS
from cxr_gan.evaluation.results import HEADLINE, POOLED, Estimate, Estimates, MetricKey

BINS = 5  # quantile bins of a numeric factor


def factor_distances(context: EvaluationContext, ids: Sequence[str]) -> Estimates:
    """Total variation distance of each factor from B, for generated images and for A.

    All sets contribute equally many images of each class. Intervals are from
    `confidence_intervals.bootstrap` over the first set; B is held fixed. The distance
    between histograms of n images is above 0 by chance, by about (bins / n)^(1/2); the
    real-data reference has the same n.

    Args:
        context: the image sets.
        ids: names of the images of B, such as phantom/0/17.
    """
    labels = context.label_groups[POOLED]
    n = context.min_count(labels, ("generated", "A", "B"))
    selected = context.select("B", labels, n)
    factors = [_factors(ids[index]) for index in selected]
    points = nearest_neighbours.pixel_vectors(
        context.image_groups["B"].images[selected]
    )
    estimates: Estimates = {}
    for pair in (HEADLINE, "A~B"):
        name = pair.split("~")[0]
        rows = context.select(name, labels, n)
        group = context.image_groups[name]
        queries = nearest_neighbours.pixel_vectors(group.images[rows])
        nearest = nearest_neighbours.nearest(queries, points).point
        for factor, value_of in FACTORS.items():
            bins = _bins(np.array([value_of(one) for one in factors]))
            value, low, high = confidence_intervals.bootstrap(
                functools.partial(_distance_of_drawn, bins, nearest),
                group.patients[rows],
                draws=DRAWS,
                seed=context.seed,
            ).tolist()
            estimate = Estimate(value, low, high, len(rows), context.seed)
            estimates[MetricKey("factor_distance", factor, POOLED, pair)] = estimate
    return estimates


def _distance_of_drawn(
    bins: np.ndarray, nearest: np.ndarray, drawn: np.ndarray
) -> float:
    """Distance between the nearest phantoms of the drawn images and all phantoms.

    It is half the L1 distance between the histograms of their bins.
    """
    both = bins[nearest[drawn]], bins
    shares = [np.bincount(x, minlength=bins.max() + 1) / len(x) for x in both]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _factors(name: str) -> renderer.Factors:
    """Factors of the phantom with the name phantom/SEED/INDEX."""
    _, seed, index = name.split("/")
    return renderer.draw_factors(int(seed), int(index))


def _bins(values: np.ndarray) -> np.ndarray:
    """Bin of each value: quintiles of numbers, one bin for each string; int64 [n]."""
    if values.dtype.kind == "U":
        return np.unique(values, return_inverse=True)[1]
    edges = np.quantile(values, np.arange(1, BINS) / BINS)
    return np.searchsorted(edges, values)


def _disease_side(factors: renderer.Factors) -> str:
    return "none" if factors.disease is None else factors.disease.side


# Name of each factor -> its value. To add a factor, add one entry here.
FACTORS: dict[str, Callable[[renderer.Factors], float | str]] = {
    "opacity's side": _disease_side,
    "lungs' width": lambda f: f.patient.chest_width * f.patient.scale,
    "inspiration": lambda f: f.patient.inspiration,
    "rotation": lambda f: f.patient.rotation,
    "shift up or down": lambda f: f.patient.shift_y,
    "exposure's black": lambda f: f.exposure.black,
    "contrast": lambda f: f.exposure.contrast,
}
