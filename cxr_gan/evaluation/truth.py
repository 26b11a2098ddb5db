"""Which patients and exposures a generator of phantoms draws: the renderer knows.

A generated image is given the factors of its nearest phantom of half B, and so is each
image of half A, for the floor. What differs from how often B itself has them is a total
variation distance: 0 where all come as often as they should, 1 where none does.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from cxr_gan.data import phantom
from cxr_gan.evaluation.aspects import DRAWS
from cxr_gan.evaluation.draws import together
from cxr_gan.evaluation.figures import HEADLINE, POOLED, Figure, Figures, Key
from cxr_gan.evaluation.sides import Evidence
from cxr_gan.metrics import intervals, neighbours

BINS = 5  # equally full, of a factor that is a number


def factor_distances(evidence: Evidence, ids: Sequence[str]) -> Figures:
    """Total variation distance of each factor, of generated images and of A, from B.

    Equally many images of each set and class. Interval: `intervals.bootstrap` of the
    first set; B is taken as it is. A distance of histograms of n images is above 0 by
    chance, in about (bins / n)^(1/2): the floor has the same n.

    Args:
        evidence: the sets.
        ids: names of B's images, such as phantom/0/17.
    """
    labels = evidence.groups[POOLED]
    n = evidence.least(labels, ("generated", "A", "B"))
    chosen = evidence.pick("B", labels, n)
    drawn = [_factors(ids[index]) for index in chosen]
    points = neighbours.pixel_vectors(evidence.sides["B"].images[chosen])
    found: Figures = {}
    for pair in (HEADLINE, "A~B"):
        name = pair.split("~")[0]
        rows = evidence.pick(name, labels, n)
        side = evidence.sides[name]
        queries = neighbours.pixel_vectors(side.images[rows])
        nearest = neighbours.nearest(queries, points).point
        for factor, read in FACTORS.items():
            bins = _bins(np.array([read(one) for one in drawn]))
            ((value, low, high),) = together(
                functools.partial(_distance_of, bins, nearest),
                len(rows),
                functools.partial(
                    intervals.bootstrap,
                    groups=side.patients[rows],
                    draws=DRAWS,
                    seed=evidence.seed,
                ),
            )
            figure = Figure(value, low, high, len(rows), evidence.seed)
            found[Key("factor_distance", factor, POOLED, pair)] = figure
    return found


def _distance_of(
    bins: np.ndarray, nearest: np.ndarray, drawn: np.ndarray
) -> tuple[float]:
    """Of the drawn images' nearest phantoms to all."""
    return (_distance(bins[nearest[drawn]], bins),)


def _factors(name: str) -> phantom.Factors:
    """Of phantom/SEED/INDEX."""
    _, seed, index = name.split("/")
    return phantom.draw_factors(int(seed), int(index))


def _bins(values: np.ndarray) -> np.ndarray:
    """Numbers -> fifths of them; words -> their number; int64 [n]."""
    if values.dtype.kind == "U":
        return np.unique(values, return_inverse=True)[1]
    edges = np.quantile(values, np.arange(1, BINS) / BINS)
    return np.searchsorted(edges, values)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Half the sum of the differences of shares."""
    bins = max(a.max(), b.max()) + 1
    shares = [np.bincount(x, minlength=bins) / len(x) for x in (a, b)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _side(factors: phantom.Factors) -> str:
    return "none" if factors.disease is None else factors.disease.side


# What is compared, and how it is read. To add a factor, add it here.
FACTORS: dict[str, Callable[[phantom.Factors], float | str]] = {
    "opacity's side": _side,
    "lungs' width": lambda f: f.patient.chest_width * f.patient.scale,
    "inspiration": lambda f: f.patient.inspiration,
    "rotation": lambda f: f.patient.rotation,
    "shift up or down": lambda f: f.patient.shift[1],
    "exposure's black": lambda f: f.exposure.black,
    "contrast": lambda f: f.exposure.contrast,
}
