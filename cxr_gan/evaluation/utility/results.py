"""Results of the utility test, as estimates and for JSON."""

import dataclasses
from typing import Any, NamedTuple

from cxr_gan.evaluation.results import (
    POOLED,
    Estimate,
    Estimates,
    MetricKey,
    rounded,
)
from cxr_gan.evaluation.utility import auroc
from cxr_gan.evaluation.utility.training_sets import GENERATED

METHOD = (
    "Classifiers with the architecture of the label classifier ({seeds} seeds, {steps} "
    "steps of 32 images for every variant), tested on val, which shares no image with "
    "train. The 95 % intervals resample patients of each class and seeds, with the "
    "same draws for both terms of a difference. The smallest detectable difference is "
    "2.80 standard errors: a two-sided test at 5 % has 80 % power there (Bloom 1995). "
    "No correction is made for multiple comparisons. The baseline is the best variant "
    "without generated images; it is chosen on val, which favours it. Seeds determine "
    "the training of classifiers and the images sampled; the generator was trained "
    "once, and another training run may give other results."
)
IN_PLACE, ADDED = "in place of real images", "added to few real images"
# Question -> metric, sets of its estimate, sets of its reference.
METRIC_KEYS = {
    IN_PLACE: ("auroc", "trained on generated", "trained on real"),
    ADDED: ("auroc_few", "few and generated", "few, best without"),
}


class VariantResult(NamedTuple):
    """AUROC of the classifiers trained on one variant of the training set."""

    variant: str  # its name
    counts: tuple[int, ...]  # training images of each class
    auroc: auroc.AurocEstimate
    difference: auroc.AurocEstimate | None  # from the baseline; None for the baseline

    def describe(self, baseline: str) -> str:
        """The result in words."""
        if self.difference is None:
            return "baseline of the differences"
        return auroc.describe(self.difference, baseline)

    def row(self, baseline: str, class_names: tuple[str, ...]) -> dict[str, Any]:
        """The JSON of the variant."""
        row: dict[str, Any] = {
            "variant": self.variant,
            "counts": dict(zip(class_names, self.counts, strict=True)),
            "auroc": rounded(self.auroc._asdict()),
            "words": self.describe(baseline),
        }
        if self.difference is not None:
            smallest = auroc.detectable_difference(self.difference.error)
            row["difference"] = rounded(self.difference._asdict())
            row |= rounded({"detectable": smallest})
        return row


class Comparison(NamedTuple):
    """Variants that differ in the training set only."""

    question: str
    view: str  # the part of each image that classifiers see
    baseline: str  # variant that all others are compared with
    results: tuple[VariantResult, ...]


@dataclasses.dataclass(frozen=True)
class Utility:
    """All comparisons of a utility test."""

    comparisons: tuple[Comparison, ...]
    n: int  # images of val
    seed: int
    seeds: int
    steps: int

    def estimates(self) -> Estimates:
        """AUROC with generated images; the reference is the AUROC of the baseline."""
        estimates: Estimates = {}
        for question, view, baseline, results in self.comparisons:
            metric, generated, reference = METRIC_KEYS[question]
            by_name = {result.variant: result.auroc for result in results}
            for name, sets in ((GENERATED, generated), (baseline, reference)):
                value, low, high, _ = by_name[name]
                key = MetricKey(metric, view, POOLED, sets)
                estimates[key] = Estimate(value, low, high, self.n, self.seed)
        return estimates

    def report(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """The content of report.json["utility"]."""
        return {
            "method": METHOD.format(seeds=self.seeds, steps=self.steps),
            "seeds": self.seeds,
            "steps": self.steps,
            "images_of_val": self.n,
            "comparisons": [
                {
                    **{"question": question, "view": view, "baseline": baseline},
                    "variants": [
                        result.row(baseline, class_names) for result in results
                    ],
                }
                for question, view, baseline, results in self.comparisons
            ],
        }
