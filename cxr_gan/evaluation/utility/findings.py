"""What a test of utility found, as figures and for JSON."""

import dataclasses
from typing import Any, NamedTuple

from cxr_gan.evaluation.figures import DIGITS, POOLED, Figure, Figures, Key
from cxr_gan.evaluation.utility import paired
from cxr_gan.evaluation.utility.arms import GENERATED

METHOD = (
    "Classifiers built as the judge of labels, {seeds} seeds, {steps} steps of 32 "
    "images for every arm, tested on val, of which no image is in train. Intervals of "
    "95 % from drawing patients of each class and seeds again, alike for both sides of "
    "a difference. One that would have been seen: 2.80 standard errors, for a test at "
    "5 % with 80 % power (Bloom 1995). Each difference is judged by itself. The best "
    "arm without generated images is chosen on val, to its favour. Seeds are of "
    "classifiers and of the images drawn; the generator was trained once, and another "
    "may do otherwise."
)
IN_PLACE, ADDED = "in place of real images", "added to few real images"
KINDS = {  # question -> metric, the sets of its figure and of its floor
    IN_PLACE: ("auroc", "trained on generated", "trained on real"),
    ADDED: ("auroc_few", "few and generated", "few, best without"),
}


class Line(NamedTuple):
    """One arm of a comparison."""

    arm: str
    counts: tuple[int, ...]  # images of each class it learnt from
    auroc: paired.Estimate
    difference: paired.Estimate | None  # from the arm it is compared with; None there

    def words(self, other: str) -> str:
        """What is to be said of it."""
        if self.difference is None:
            return "what the others are compared with"
        return paired.words(self.difference, other)


class Comparison(NamedTuple):
    """Arms that differ in nothing but what they learnt from."""

    question: str
    view: str  # what was shown of each image
    against: str  # the arm all are compared with
    lines: tuple[Line, ...]


@dataclasses.dataclass(frozen=True)
class Utility:
    """All that was found."""

    comparisons: tuple[Comparison, ...]
    n: int  # images of val
    seed: int
    seeds: int
    steps: int

    def figures(self) -> Figures:
        """Of the arms with generated images; floors are the arms compared with."""
        found: Figures = {}
        for of in self.comparisons:
            metric, mine, floor = KINDS[of.question]
            by_name = {line.arm: line.auroc for line in of.lines}
            for arm, sets in ((GENERATED, mine), (of.against, floor)):
                value, low, high, _ = by_name[arm]
                figure = Figure(value, low, high, self.n, self.seed)
                found[Key(metric, of.view, POOLED, sets)] = figure
        return found

    def report(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": METHOD.format(seeds=self.seeds, steps=self.steps),
            "seeds": self.seeds,
            "steps": self.steps,
            "images_of_val": self.n,
            "comparisons": [
                {
                    "question": of.question,
                    "view": of.view,
                    "against": of.against,
                    "arms": [_row(line, of.against, class_names) for line in of.lines],
                }
                for of in self.comparisons
            ],
        }


def _row(line: Line, other: str, class_names: tuple[str, ...]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "arm": line.arm,
        "counts": dict(zip(class_names, line.counts, strict=True)),
        "auroc": _numbers(line.auroc),
        "words": line.words(other),
    }
    if line.difference is not None:
        least = paired.detectable(line.difference.error)
        row["difference"] = _numbers(line.difference)
        row["detectable"] = _short(least)
    return row


def _numbers(of: paired.Estimate) -> dict[str, float]:
    return {name: _short(value) for name, value in of._asdict().items()}


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
