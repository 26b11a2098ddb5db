"""One set of images against one real set: figures, floors, and what they mean.

Pure: arrays in, figures out; the same arguments, the same figures.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tqdm

from cxr_gan.data import ImageSet
from cxr_gan.evaluation import truth, verdict
from cxr_gan.evaluation.aspects import ASPECTS
from cxr_gan.evaluation.comparisons import compare
from cxr_gan.evaluation.copies import Pairs, copies
from cxr_gan.evaluation.figures import POOLED, Figures, Key, rows
from cxr_gan.evaluation.sides import Evidence, Real, Side, divide
from cxr_gan.metrics import features, fidelity
from cxr_gan.metrics.features import FeatureSpace

__all__ = ["Findings", "Real", "copied", "divide", "evaluate"]

ALWAYS = "cxr"  # the space copies are looked for in, whatever others are asked for


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """All that an evaluation has to say."""

    figures: Figures
    pairs: dict[str, Pairs]  # view -> generated images nearest to training images
    notes: list[str]  # warnings and remarks
    faults: list[str]  # in words; none if it has none

    @property
    def verdict(self) -> str:
        """The last line: verdict: ..."""
        return verdict.line(self.faults)

    def rows(self) -> list[dict[str, Any]]:
        """The figures that have a floor, for JSON."""
        return rows(self.figures)


def evaluate(
    images: np.ndarray,
    labels: np.ndarray,
    real: Real,
    *,
    spaces: Sequence[FeatureSpace],
    judge: fidelity.Judge,
    seed: int,
) -> Findings:
    """Compares images with a real set, and the parts of that set with one another.

    Args:
        images: uint8 [n, s, s, 1], s of at least 32 and as of the real ones.
        labels: int [n], the classes that were asked for.
        real: see `divide`.
        spaces: where distances are taken.
        judge: of classes, taught on half B of real.
        seed: which images, and every interval.

    Raises:
        ValueError: fewer than 10 images of a class in a set; most images are, to the
            bit, the data set's own; sizes differ.
    """
    known = {space.name: space for space in spaces}
    named = {ALWAYS: features.space(ALWAYS), **known}
    sides = {"generated": Side.of_generated(images, labels), **real.sides()}
    evidence = Evidence(sides, real.class_names, seed, named, judge)
    notes = [*check(images, real), *evidence.check()]
    jobs: dict[str, Callable[[], Figures]] = {
        f"distances in {name}": functools.partial(compare, evidence, name)
        for name in known
    }
    jobs |= {name: functools.partial(job, evidence) for name, job in ASPECTS.items()}
    of_b = real.train.take(~real.in_a)
    if is_phantom(of_b):
        jobs["factors"] = functools.partial(truth.factor_distances, evidence, of_b.ids)
    figures: Figures = {}
    bar = tqdm.tqdm(jobs.items(), "Evaluating", disable=None, delay=2)
    for name, job in bar:
        bar.set_postfix_str(name)
        figures |= job()
    found, pairs = copies(evidence)
    figures |= found
    faults = verdict.judge(figures, real.class_names)
    notes += remarks(figures, 1 / len(real.class_names))
    return Findings(figures, pairs, notes, faults)


def check(images: np.ndarray, real: Real) -> list[str]:
    """What is to be said before any figure.

    Raises:
        ValueError: the images are the data set, or of another size.
    """
    sizes = images.shape[1:], real.train.images.shape[1:]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"images are {list(sizes[0])}, real ones {list(sizes[1])}; load the data "
            "set at the images' resolution"
        )
    whole = np.concatenate([real.train.images, real.val.images])
    own = {image.tobytes() for image in whole}
    count = sum(image.tobytes() in own for image in images)
    if count > len(images) / 2:
        raise ValueError(
            f"{count} of {len(images)} images are, to the bit, the data set's own; "
            "give generated images: real ones would only be compared with themselves"
        )
    notes = []
    if real.dropped:
        notes.append(
            f"{real.dropped} images of the data set are, to the bit, others of it; "
            "each was taken once"
        )
    if count:
        notes.append(f"{count} images are, to the bit, the data set's own")
    return notes


def remarks(figures: Figures, chance: float) -> list[str]:
    """What is no fault, but should be known; chance is 1 / K."""
    said = []
    key = Key("label_fidelity", "judge", POOLED, "generated")
    own, val = figures[key], figures[key._replace(sets="val")]
    if not verdict.can_judge(val, chance):
        said.append(
            f"the judge of classes knows but {val.value:.0%} of val's images: nothing "
            "is said of labels"
        )
    elif own.low > val.high:
        said.append(
            f"the judge of classes agrees with {own.value:.0%} of the labels, with "
            f"{val.value:.0%} of val's: the images are more typical than real images"
        )
    return said


def copied(figures: Figures, most: float) -> bool:
    """Whether copies are more than is allowed.

    That is, whether in any view there is an exact or a near copy, or the share of
    images nearer to a training image than 99 % of val's are is above `most`.
    """
    of = {
        metric: max(
            figure.value
            for key, figure in figures.items()
            if key.metric == metric and key.sets == "generated~train"
        )
        for metric in ("exact_copies", "near_copies", "below_first_percentile")
    }
    return bool(
        of["exact_copies"] or of["near_copies"] or of["below_first_percentile"] > most
    )


def is_phantom(images: ImageSet) -> bool:
    """Whether the images' names say that we drew them."""
    return all(name.startswith("phantom/") for name in images.ids)
