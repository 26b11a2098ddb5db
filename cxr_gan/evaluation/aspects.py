"""What is asked of images beside their distances: sharpness, labels, variety."""

import functools
import itertools
from collections.abc import Callable

import numpy as np

from cxr_gan.evaluation.draws import together
from cxr_gan.evaluation.figures import HEADLINE, POOLED, Figure, Figures, Key
from cxr_gan.evaluation.sides import Evidence
from cxr_gan.metrics import fidelity, intervals, spectrum, ssim

DRAWS = 200  # of a bootstrap; enough for ends that are not quoted by themselves
PAIRS = 4_000  # of a class, whose likeness is taken; all there are of fewer
PAIRS_AT_ONCE = 64


def power(evidence: Evidence) -> Figures:
    """dB in each octave, generated less B, class by class; floor A less B.

    Equally many images of each set. Interval: `intervals.bootstrap` of both sets.
    """
    found: Figures = {}
    known = {
        name: spectrum.profiles(evidence.sides[name].images)
        for name in ("generated", "A", "B")
    }
    size = evidence.sides["B"].images.shape[1]
    for label, group in enumerate(evidence.class_names):
        n = evidence.least((label,), tuple(known))
        for pair in (HEADLINE, "A~B"):
            names = pair.split("~")
            rows = {name: evidence.pick(name, (label,), n) for name in names}
            both = np.concatenate([known[name][rows[name]] for name in names])
            groups = [evidence.sides[name].patients[rows[name]] for name in names]

            interval = functools.partial(
                intervals.bootstrap,
                groups=np.concatenate(groups),
                draws=DRAWS,
                seed=evidence.seed,
            )
            difference = functools.partial(_less, both, n, size)
            ends = together(difference, 2 * n, interval)
            for octave, of in zip(octaves(size), ends, strict=True):
                found[Key("power", octave, group, pair)] = Figure(*of, n, evidence.seed)
    return found


def _less(both: np.ndarray, n: int, size: int, drawn: np.ndarray) -> list[float]:
    """dB in each octave of the drawn among the first n less those of the others."""
    first, second = both[drawn[drawn < n]].mean(0), both[drawn[drawn >= n]].mean(0)
    less = spectrum.octaves(first, size) - spectrum.octaves(second, size)
    return [float(band) for band in less]


def octaves(size: int) -> list[str]:
    """Names of the octaves of images of `size` px, lowest first: '1/4-1/2'."""
    edges = [f"1/{round(1 / edge)}" for edge in spectrum.octave_edges(size)]
    return [f"{low}-{high}" for low, high in itertools.pairwise(edges)]


def given_back(evidence: Evidence) -> Figures:
    """Share of images whose class the judge gives back; of val and A beside it.

    All images of a class; pooled, equally many of each. `intervals.share_interval`.
    """
    found: Figures = {}
    for name in ("generated", "val", "A"):
        side = evidence.sides[name]
        said = fidelity.classify(evidence.judge, side.images).argmax(1)
        hits = said == side.labels
        for group, labels in evidence.groups.items():
            n = evidence.least(labels, (name,))
            rows = evidence.pick(name, labels, n)
            key = Key("label_fidelity", "judge", group, name)
            found[key] = share(hits[rows], side.patients[rows], evidence.seed)
    return found


def share(hits: np.ndarray, patients: np.ndarray, seed: int) -> Figure:
    """Of images that are hits; of a single patient's, nothing is certain."""
    if len(np.unique(patients)) < 2:
        return Figure(float(hits.mean()), 0.0, 1.0, len(hits), seed)
    ends = intervals.share_interval(hits, patients, draws=DRAWS, seed=seed)
    return Figure(float(hits.mean()), *ends, len(hits), seed)


def likeness(evidence: Evidence) -> Figures:
    """Mean MS-SSIM of pairs in a class: generated less A and B; floor A less B.

    Above 0 is less varied than real images. Interval: `intervals.subsample` of both;
    of half of the images a quarter of the pairs are left, so it errs on the wide side.
    """
    found: Figures = {}
    for label, group in enumerate(evidence.class_names):
        values = {}
        for name, sides in (
            ("generated", ("generated",)),
            ("A+B", ("A", "B")),
            ("A", ("A",)),
            ("B", ("B",)),
        ):
            values[name] = _alike(evidence, sides, label)
        for pair in ("generated~A+B", "A~B"):
            first, second = (values[name] for name in pair.split("~"))
            figure = _difference(first, second, evidence.seed)
            found[Key("ms_ssim", "pairs", group, pair)] = figure
    return found


Alike = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # values, i, j, patients


def _alike(evidence: Evidence, names: tuple[str, ...], label: int) -> Alike:
    """`ssim.ms_ssim` of pairs of one class of the sets together."""
    sides = [evidence.sides[name] for name in names]
    images = np.concatenate([side.images[side.labels == label] for side in sides])
    patients = np.concatenate([side.patients[side.labels == label] for side in sides])
    first, second = ssim.draw_pairs(len(images), evidence.seed, PAIRS)
    size = images.shape[1]
    scales = ssim.scales_for(size)
    while size % 2 ** (scales - 1):
        scales -= 1
    values = []
    for at in range(0, len(first), PAIRS_AT_ONCE):
        i, j = first[at : at + PAIRS_AT_ONCE], second[at : at + PAIRS_AT_ONCE]
        a, b = (
            np.resize(images[k], (PAIRS_AT_ONCE, *images.shape[1:])).astype(np.float32)
            for k in (i, j)
        )
        some = np.asarray(ssim.ms_ssim(a / 255, b / 255, scales))
        values.append(some[: len(i)])
    return np.concatenate(values), first, second, patients


def _difference(a: Alike, b: Alike, seed: int) -> Figure:
    n, m = len(a[3]), len(b[3])

    def of(drawn: np.ndarray) -> float:
        there = np.zeros(n + m, bool)
        there[drawn] = True
        return _mean(a, there[:n]) - _mean(b, there[n:])

    ends = intervals.subsample(
        of,
        np.concatenate([a[3], b[3]]),
        strata=np.repeat([0, 1], [n, m]),
        draws=intervals.LEAST_DRAWS,
        seed=seed,
    )
    return Figure(of(np.arange(n + m)), *ends, min(n, m), seed)


def _mean(pairs: Alike, there: np.ndarray) -> float:
    """Over the pairs of which both images are there; of all, should there be none."""
    values, first, second, _ = pairs
    kept = there[first] & there[second]
    return float(values[kept].mean() if kept.any() else values.mean())


def repeated(evidence: Evidence) -> Figures:
    """Share of images that are, to the bit, another of their own set.

    Of a data set it is 0, since the repeated were dropped.
    """
    found: Figures = {}
    for name in ("generated", "val"):
        side = evidence.sides[name]
        seen: set[bytes] = set()
        hits = np.zeros(len(side), bool)
        for index, image in enumerate(side.images):
            hits[index] = image.tobytes() in seen
            seen.add(image.tobytes())
        key = Key("repeated", "bytes", POOLED, name)
        found[key] = share(hits, side.patients, evidence.seed)
    return found


# To add a question to images that has figures and floors, add it here.
ASPECTS: dict[str, Callable[[Evidence], Figures]] = {
    "power": power,
    "label_fidelity": given_back,
    "ms_ssim": likeness,
    "repeated": repeated,
}
