"""Warnings about a training that fails while its metrics are still finite.

The run continues and may recover. NaN and infinite metrics raise
`metric_writer.NonFiniteError` instead.

Successful runs of the default configuration stay far from all limits: losses below 2,
score gap from 0.14 to 0.65 after the first steps, g/diversity below 0.2 in the first
report and 0.09 later, and eval/ms_ssim_excess below 0.14.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

EXPLODED = 100.0  # absolute value of a loss
GAP_TOO_HIGH = 0.9  # score gap, in units of the distance of D's targets
GAP_TOO_LOW = 0.0  # D separates nothing
# Value of `losses.diversity` where generated images of a class vary half or twice
# as much as real ones.
HALF_DIVERSITY = 4 / 9
MS_SSIM_EXCESS = 0.2  # MS-SSIM within a class minus that within val
PERSISTENT = 5  # consecutive reports; a single report can be chance
PERSISTENT_VALIDATIONS = 2

LOSSES = ("d/adversarial", "d/class", "d/r1", "g/adversarial", "g/class")


class Check(NamedTuple):
    """A condition on one metric of a report."""

    metric: str
    fails: Callable[[float], bool]
    persistence: int  # consecutive failing reports before the warning
    advice: str


def make_checks(
    class_names: Iterable[str],
    target_distance: float,
    diversity_weight: float,
    near_training_limit: float,
) -> tuple[Check, ...]:
    """All checks of a training.

    Args:
        class_names: of the data.
        target_distance: of the adversarial loss; the unit of the score gap.
        diversity_weight: factor contained in g/diversity; 0 = no such term.
        near_training_limit: see `validation`; a checkpoint above it is the best one
            only if all are.
    """
    restart = "in another --workdir"
    exploded = f"losses explode; if it persists, use smaller learning rates {restart}"
    d_wins = (
        f"for {PERSISTENT} reports D has separated nearly all images, so G learns "
        f"little from it; use a larger --config.loss.r1_weight {restart}"
    )
    d_wins_class = (
        f"for {PERSISTENT} reports D has separated nearly all images of this class; if "
        "the grids show it black or white, train from the beginning with another "
        f"--config.seed {restart}"
    )
    d_fails = (
        f"for {PERSISTENT} reports D has separated no images, so G learns nothing from "
        f"it; use a smaller --config.loss.r1_weight {restart}"
    )
    repeats = (
        "G repeats itself within a class; look at the grids, and use a larger "
        f"--config.loss.diversity_weight {restart}"
    )
    differs = (
        "images of a class vary about half or twice as much as real ones; look at the "
        f"grids, and use a larger --config.loss.diversity_weight {restart}"
    )
    copies = (
        "more generated images are very near to training images than real images of "
        "other patients would be: the run begins to copy; use @best if it is an "
        f"earlier checkpoint, or train on more images {restart}"
    )
    limit = HALF_DIVERSITY * diversity_weight if diversity_weight else math.inf
    high, low = GAP_TOO_HIGH * target_distance, GAP_TOO_LOW * target_distance
    return (
        *(Check(key, lambda x: abs(x) >= EXPLODED, 1, exploded) for key in LOSSES),
        Check("d/score_gap", lambda x: x >= high, PERSISTENT, d_wins),
        Check("d/score_gap", lambda x: x <= low, PERSISTENT, d_fails),
        *(
            Check(f"d/score_gap/{name}", lambda x: x >= high, PERSISTENT, d_wins_class)
            for name in class_names
        ),
        Check("g/diversity", lambda x: x >= limit, PERSISTENT, differs),
        Check(
            "eval/near_training",
            lambda x: x > near_training_limit,
            PERSISTENT_VALIDATIONS,
            copies,
        ),
        *(
            Check(
                f"eval/ms_ssim_excess/{name}",
                lambda x: x >= MS_SSIM_EXCESS,
                1,
                repeats,
            )
            for name in class_names
        ),
    )


class DiagnosticMonitor:
    """Counts consecutive failing reports of each check, and warns once.

    A check that passes and then fails again warns again.
    """

    def __init__(self, checks: tuple[Check, ...]):
        self._checks = checks
        self._failed: Counter[Check] = Counter()

    def update(self, metrics: Mapping[str, float]) -> list[str]:
        """Warnings due with this report; checks without a metric in it are skipped."""
        warnings = []
        for check in self._checks:
            if check.metric in metrics:
                value = metrics[check.metric]
                failed = self._failed[check] + 1 if check.fails(value) else 0
                self._failed[check] = failed
                if failed == check.persistence:
                    warnings.append(f"{check.metric} is {value:.3g}: {check.advice}")
        return warnings
