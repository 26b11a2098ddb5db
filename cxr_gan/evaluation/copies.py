"""Whether generated images are copies of training images; see `metrics.neighbours`."""

import dataclasses

import numpy as np
from scipy import stats

from cxr_gan.evaluation.aspects import DRAWS, share
from cxr_gan.evaluation.figures import POOLED, Figure, Figures, Key
from cxr_gan.evaluation.sides import Evidence
from cxr_gan.metrics import intervals, neighbours

SETS, FLOOR = "generated~train", "val~train"
VIEWS: dict[str, neighbours.Search] = {
    "cxr": neighbours.nearest,
    "pixels": neighbours.nearest_shifted,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """The nearest pairs of a generated and a training image, nearest first."""

    generated: np.ndarray  # int64 [w], index
    train: np.ndarray  # int64 [w], index into A, then B
    distance: np.ndarray  # float64 [w]


def copies(evidence: Evidence) -> tuple[Figures, dict[str, Pairs]]:
    """How near each generated image comes to a training image, beside val's.

    Floors are those of images as new as val's, by definition: ratio 1, 0.01 `below`,
    and this one with the interval the first percentile of so few images has.
    """
    found: Figures = {}
    galleries = {}
    same = alike(evidence.sides["generated"].images)
    for view, search in VIEWS.items():
        audit = neighbours.audit(
            vectors(evidence, view, "generated"),
            train_vectors(evidence, view),
            vectors(evidence, view, "val"),
            patients=(evidence.sides["val"].patients, train_patients(evidence)),
            search=search,
        )
        for metric, pair in figures_of(audit, evidence, same).items():
            for sets, figure in zip((SETS, FLOOR), pair, strict=True):
                found[Key(metric, view, POOLED, sets)] = figure
        worst = audit.worst[:, 0]
        galleries[view] = Pairs(worst, audit.worst[:, 1], audit.nearest.distance[worst])
    train = np.concatenate([evidence.sides[name].images for name in ("A", "B")])
    for name, sets in (("generated", SETS), ("val", FLOOR)):
        side = evidence.sides[name]
        hits = neighbours.same_bytes(side.images, train)
        figure = count(hits, side.patients, evidence.seed)
        found[Key("exact_copies", "bytes", POOLED, sets)] = figure
    return found, galleries


def alike(images: np.ndarray) -> np.ndarray:
    """int64 [n]: of each image, the first that is the same to the bit.

    One that was drawn ten times over says no more of copies than once.
    """
    first: dict[bytes, int] = {}
    return np.array(
        [first.setdefault(image.tobytes(), at) for at, image in enumerate(images)]
    )


def figures_of(
    audit: neighbours.Audit, evidence: Evidence, same: np.ndarray
) -> dict[str, tuple[Figure, Figure]]:
    """Each figure of an audit, and its floor; `same` is of `alike`."""
    side, seed = evidence.sides["generated"], evidence.seed
    distance = audit.nearest.distance
    n, held = len(distance), len(evidence.sides["val"])
    rank = np.empty(n, np.int64)
    rank[np.argsort(distance, kind="stable")] = np.arange(n)
    below = rank < round(audit.below * n)
    exact = distance == 0
    near = ~exact & (rank < audit.exact + audit.near)
    scale = audit.ratio / np.median(distance) if np.median(distance) else 0.0
    ends = intervals.bootstrap(
        lambda i: float(np.median(distance[i]) * scale),
        side.patients,
        draws=DRAWS,
        seed=seed,
    )

    def by_definition(value: float) -> Figure:
        return Figure(value, value, value, held, seed)

    # The k-th of h distances has as many below it as Beta(k, h + 1 - k) says.
    k = 1 + 0.01 * (held - 1)
    below_low, below_high = map(float, stats.beta.ppf([0.025, 0.975], k, held + 1 - k))
    return {
        "distance_ratio": (Figure(audit.ratio, *ends, n, seed), by_definition(1.0)),
        "below_first_percentile": (
            share(below, same, seed),
            by_definition(0.01)._replace(low=below_low, high=below_high),
        ),
        "exact_copies": (count(exact, same, seed), by_definition(0.0)),
        "near_copies": (count(near, same, seed), by_definition(0.0)),
    }


def count(hits: np.ndarray, patients: np.ndarray, seed: int) -> Figure:
    """How many images are hits, of as many images as there are."""
    of = share(hits, patients, seed)
    n = len(hits)
    return Figure(float(hits.sum()), n * of.low, n * of.high, n, seed)


def vectors(evidence: Evidence, view: str, name: str) -> np.ndarray:
    """Of one set, as one view sees it."""
    if view == "pixels":
        return neighbours.pixel_vectors(evidence.sides[name].images)
    return evidence.features(view)[name]


def train_vectors(evidence: Evidence, view: str) -> np.ndarray:
    """Of A, then B."""
    return np.concatenate([vectors(evidence, view, name) for name in ("A", "B")])


def train_patients(evidence: Evidence) -> np.ndarray:
    """Of A, then B."""
    return np.concatenate([evidence.sides[name].patients for name in ("A", "B")])
