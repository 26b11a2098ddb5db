"""The checks of an audit: one table of values with their limits.

Limits are round numbers, set by hand; they are stated beside each value. 2,000 rendered
phantoms of 128 px exceed none of them.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from cxr_gan.data import quality
from cxr_gan.data.formats.prepared import Row
from cxr_gan.evaluation.audit.copies import Copies
from cxr_gan.evaluation.audit.measurements import MIN_TEXT_SIDE, Measurements
from cxr_gan.evaluation.utility.auroc import AurocEstimate

MAX_AUROC = 0.75  # that the lower end of the interval may have
MAX_SHARE_DIFFERENCE = 0.2  # between two classes, of the images with a mark
MIN_BORDER = 0.02  # of the side
MAX_REPEATED = 0.01  # of the images


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """All that checks are computed from; n images, K classes."""

    rows: Sequence[Row]  # [n]
    labels: np.ndarray  # int [n]
    class_names: tuple[str, ...]
    resolution: int  # px
    measured: Measurements
    copies: Copies
    aurocs: dict[str, AurocEstimate | None]  # by feature set; None if not estimated

    def of_classes(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Values [n], class by class."""
        return {
            name: values[self.labels == label]
            for label, name in enumerate(self.class_names)
        }


@dataclasses.dataclass(frozen=True)
class Check:
    """One value and the limit that it must not exceed."""

    name: str
    value: float | None  # None if it cannot be known, with the reason in `text`
    limit: float
    text: str  # what was found, one sentence
    rows: tuple[int, ...] = ()  # of the images that show it

    @property
    def is_exceeded(self) -> bool:
        """Whether the value is above the limit."""
        return self.value is not None and self.value > self.limit


def run(evidence: Evidence) -> list[Check]:
    """All checks, in the order of the page."""
    return [check for function in CHECKS for check in function(evidence)]


def _patients(evidence: Evidence) -> Iterable[Check]:
    splits: dict[str, set[str]] = collections.defaultdict(set)
    for row in evidence.rows:
        if row.patient:
            splits[row.patient].add(row.split)
    shared = {patient for patient, of in splits.items() if len(of) > 1}
    yield Check(
        "patients in both train and val",
        len(shared) if splits else None,
        0,
        f"{len(splits)} patients are known" if splits else "no patient is known",
        _where(row.patient in shared for row in evidence.rows),
    )


def _copies(evidence: Evidence) -> Iterable[Check]:
    across: list[int] = []
    conflicts: list[int] = []
    shown: list[int] = []
    for group in evidence.copies.all:
        is_val = [evidence.rows[row].split == "val" for row in group]
        across += [] if all(is_val) else itertools.compress(group, is_val)
        labels = evidence.labels[group]
        if labels.min() < labels.max():
            conflicts += group
        shown += group
    repeated = len(shown) - len(evidence.copies.all)
    n, exact = len(evidence.rows), len(evidence.copies.exact)
    near = sum(map(len, evidence.copies.all)) - sum(map(len, evidence.copies.exact))
    yield Check(
        "images of val that are in train",
        len(across),
        0,
        "images that are equal, or nearly so, to one of train",
        tuple(across),
    )
    yield Check(
        "copies with another label",
        len(conflicts),
        0,
        "images that are equal, or nearly so, to one of another class",
        tuple(conflicts),
    )
    yield Check(
        "repeated images",
        repeated / n,
        MAX_REPEATED,
        f"{repeated} of {n} images repeat another; groups that are equal pixel by "
        f"pixel: {exact}; further images that are nearly equal to another: {near}",
        tuple(shown),
    )


def _polarity(evidence: Evidence) -> Iterable[Check]:
    inverted = np.array([one.inverted for one in evidence.measured.quality])
    for name, of_class in evidence.of_classes(inverted).items():
        yield Check(
            f"inverted images in {name}",
            float(of_class.mean()),
            quality.MIN_NEGATIVE_FRACTION,
            f"{of_class.sum()} of {len(of_class)} images are bright where there is air",
            _where(inverted & (evidence.labels == evidence.class_names.index(name))),
        )


def _ranges(evidence: Evidence) -> Iterable[Check]:
    for what, key, limit in (
        ("brightness", "mean", quality.MAX_BRIGHTNESS_DIFFERENCE),
        ("contrast", "contrast", quality.MAX_CONTRAST_DIFFERENCE),
    ):
        values = np.array([getattr(one, key) for one in evidence.measured.quality])
        medians = {k: np.median(x) for k, x in evidence.of_classes(values).items()}
        listed = ", ".join(f"{name} {x:.0f}" for name, x in medians.items())
        yield Check(
            f"difference of {what} between classes",
            float(np.ptp(list(medians.values()))),
            limit,
            f"medians, of 255: {listed}",
        )


def _balance(evidence: Evidence) -> Iterable[Check]:
    counts = np.bincount(evidence.labels, minlength=len(evidence.class_names))
    listed = ", ".join(
        f"{count} of {name}"
        for name, count in zip(evidence.class_names, counts, strict=True)
    )
    yield Check(
        "imbalance of classes",
        float(counts.max() / counts.min()),
        1 / quality.MIN_CLASS_FRACTION,
        f"largest class divided by the smallest: {listed}",
    )
    yield Check(
        "classes that are too small",
        int(np.sum(counts < quality.MIN_IMAGES)),
        0,
        f"classes of fewer than {quality.MIN_IMAGES} images, which a GAN repeats",
    )


def _size(evidence: Evidence) -> Iterable[Check]:
    sides = [row.shorter_side for row in evidence.rows]
    is_small = np.array([0 < side < evidence.resolution for side in sides])
    yield Check(
        "enlarged images",
        float(is_small.mean()) if any(sides) else None,
        0,
        f"{is_small.sum()} of {len(sides)} files are smaller than the images"
        if any(sides)
        else "the sizes of the originals are unknown",
        _where(is_small),
    )


def _marks(evidence: Evidence) -> Iterable[Check]:
    is_searched = evidence.resolution >= MIN_TEXT_SIDE
    for what, has, is_known in (
        ("burnt-in text", evidence.measured.characters > 0, is_searched),
        ("flat borders", evidence.measured.border > MIN_BORDER, True),
    ):
        shares = {k: float(x.mean()) for k, x in evidence.of_classes(has).items()}
        listed = ", ".join(f"{100 * x:.1f} % of {name}" for name, x in shares.items())
        yield Check(
            f"difference of {what} between classes",
            max(shares.values()) - min(shares.values()) if is_known else None,
            MAX_SHARE_DIFFERENCE,
            listed if is_known else f"not searched for below {MIN_TEXT_SIDE} px",
            _where(has),
        )


def _shortcuts(evidence: Evidence) -> Iterable[Check]:
    for what, found in evidence.aurocs.items():
        yield Check(
            f"label from {what}",
            None if found is None else found.low,
            MAX_AUROC,
            "cannot be estimated: too few patients of a class, or nothing varies"
            if found is None
            else f"AUROC {found.value:.3f} (95 % interval {found.low:.3f} to "
            f"{found.high:.3f}) of a linear classifier; its lower end is compared",
        )


def _where(mask: Iterable[bool] | np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(np.fromiter(mask, bool)).tolist())


CHECKS: tuple[Callable[[Evidence], Iterable[Check]], ...] = (
    _patients,
    _copies,
    _polarity,
    _ranges,
    _balance,
    _size,
    _marks,
    _shortcuts,
)
