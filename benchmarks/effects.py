"""Results of an ablation: the effect of each variant, compared with seed noise."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks import bars, pages
from benchmarks.arms import DEFAULT

Record = dict[str, Any]  # one run
Records = dict[str, list[Record]]  # variant -> its runs
SCORED = ("fid/cxr", "fid/texture")
STABLE_RATIO = 1.15  # at most: the last validation over the best one
# Columns of the table: heading -> metric, and its format.
COLUMNS = {
    "FID, cxr": ("fid/cxr", ".2f"),
    "FID, texture": ("fid/texture", ".3f"),
    "KID, cxr": ("kid/cxr", ".4f"),
    "recall, cxr": ("recall/cxr", ".2f"),
    "coverage, cxr": ("coverage/cxr", ".2f"),
    "label accuracy": ("eval/label_accuracy", ".2f"),
    "MS-SSIM above val": ("eval/ms_ssim_excess", "+.3f"),
}
ZERO, WORSE, BETTER, GRID = "#9aa5b1", "#b3261e", "#1e6fb3", "#e3e7eb"
LABELS, WIDTH, STEP, TOP = 260, 460, 20, 44
LIMIT = math.log(2)  # of the drawing, in both directions


class Effect(NamedTuple):
    """Log score of a variant minus the mean log score of the published recipe."""

    variant: str
    each: tuple[float, ...]  # of each run
    mean: float  # above 0: worse than as published
    error: float  # standard error of the mean; 0 for the published recipe

    @property
    def significant(self) -> bool:
        """Whether the mean is beyond two standard errors."""
        return abs(self.mean) > 2 * self.error > 0


def score(record: Record) -> float:
    """Logarithm of the geometric mean of both FIDs; lower is better."""
    return statistics.fmean(math.log(record["metrics"][name]) for name in SCORED)


def finished(records: Sequence[Record]) -> list[Record]:
    """The runs that did not become NaN or infinite."""
    return [record for record in records if "metrics" in record]


def noise(records: Records) -> float:
    """Standard deviation of the score over seeds, pooled over all variants.

    Raises:
        ValueError: no variant has two finished runs.
    """
    scores = [[score(r) for r in finished(runs)] for runs in records.values()]
    repeated = [values for values in scores if len(values) > 1]
    if not repeated:
        raise ValueError(
            "no variant has two finished runs: the seed noise cannot be estimated"
        )
    squares = sum(statistics.variance(v) * (len(v) - 1) for v in repeated)
    return math.sqrt(squares / sum(len(v) - 1 for v in repeated))


def effects(records: Records) -> list[Effect]:
    """The effect of every variant that has a finished run, worst variant first.

    Raises:
        ValueError: the published recipe has no finished run; or see `noise`.
    """
    default = [score(record) for record in finished(records.get(DEFAULT, []))]
    if not default:
        raise ValueError(f"{DEFAULT!r} has no finished run to compare others with")
    deviation, baseline, result = noise(records), statistics.fmean(default), []
    for variant, runs in records.items():
        each = tuple(score(record) - baseline for record in finished(runs))
        if each:
            error = deviation * math.sqrt(1 / len(each) + 1 / len(default))
            error *= variant != DEFAULT
            result.append(Effect(variant, each, statistics.fmean(each), error))
    return sorted(result, key=lambda effect: -effect.mean)


def largest(records: Records, count: int, excluded: Sequence[str]) -> list[str]:
    """The variants with the largest effects in either direction, without `excluded`."""
    ranked = sorted(effects(records), key=lambda effect: -abs(effect.mean))
    return [effect.variant for effect in ranked if effect.variant not in excluded][
        :count
    ]


def line(variant: str, seed: int, record: Record) -> str:
    """One line about one run."""
    if "non_finite_at" in record:
        return f"{variant}, seed {seed}: not finite at {record['non_finite_at']:g} kimg"
    metrics = record["metrics"]
    values = ", ".join(
        f"{name} {metrics[key]:{form}}" for name, (key, form) in COLUMNS.items()
    )
    return f"{variant}, seed {seed}, {record['cpu_seconds']:.0f} s: {values}"


def last_over_best(record: Record) -> float:
    """KID of the last validation over the lowest one; noisy where KID is near 0."""
    kids = [kid for _, kid in record["validations"]]
    return kids[-1] / min(kids)


def mean(records: Sequence[Record], metric: str) -> float:
    """Mean over the finished runs."""
    return statistics.fmean(record["metrics"][metric] for record in finished(records))


def percent(logarithm: float) -> str:
    """A log ratio as a change in per cent, such as "+12 %"."""
    return f"{100 * math.expm1(logarithm):+.0f} %"


def row(effect: Effect, records: Sequence[Record]) -> list[str]:
    """The cells of a variant: means over its finished runs."""
    runs = finished(records)
    is_default = effect.variant == DEFAULT
    cells = [effect.variant, "" if is_default else percent(effect.mean)]
    if effect.significant:
        cells[1] = f"**{cells[1]}**"
    cells += [f"{mean(records, key):{form}}" for key, form in COLUMNS.values()]
    cells.append(f"{max(last_over_best(record) for record in runs):.2f}")
    failed = len(records) - len(runs)
    cells.append(f"{len(records)}" + (f", {failed} NaN" if failed else ""))
    return cells


def text(records: Records, picture: str) -> str:
    """Markdown of the results; `picture` is the name of the drawing's file."""
    ranked = effects(records)
    others = [effect for effect in ranked if effect.variant != DEFAULT]
    runs = [record for of_variant in records.values() for record in of_variant]
    failed = [record for record in runs if "non_finite_at" in record]
    size = runs[0]["resolution"]
    seconds = statistics.median(record["cpu_seconds"] for record in finished(runs))
    unstable = [
        effect.variant
        for effect in ranked
        if max(map(last_over_best, finished(records[effect.variant]))) > STABLE_RATIO
    ]
    recalls = {e.variant: mean(records[e.variant], "recall/cxr") for e in ranked}
    groups = {
        "Worse than as published": [
            e.variant for e in others if e.significant and e.mean > 0
        ],
        "Better": [e.variant for e in others if e.significant and e.mean < 0],
        "Within the noise": [e.variant for e in others if not e.significant],
        "Recall in `cxr` less than half as high": [
            name for name, recall in recalls.items() if recall < recalls[DEFAULT] / 2
        ],
        f"Last validation more than {STABLE_RATIO:g} times the best": unstable,
    }
    lines = "".join(
        f"- {heading}: {', '.join(names) or 'none'}.\n"
        for heading, names in groups.items()
    )
    head = ["variant", "score", *COLUMNS, "last / best KID", "runs"]
    rows = [row(effect, records[effect.variant]) for effect in ranked]
    for variant, of_variant in records.items():
        if not finished(of_variant):
            blank = [""] * (len(head) - 3)
            rows.append([variant, "never finished", *blank, f"{len(of_variant)}"])
    return (
        f"{runs[0]['total_kimg']:g} kimg at {size} x {size} px, {len(runs)} runs of "
        f"about {seconds:.0f} s of CPU time; {len(failed)} of them ended with NaN. The "
        "standard deviation of the score over seeds is "
        f"{percent(noise(records))[1:]}. Bold effects are larger than two standard "
        f"errors.\n\n{lines}\n![Effect of each variant]({picture})\n\n"
        f"{pages.table(head, rows)}"
    )


def draw(records: Records) -> str:
    """SVG: a line for each variant, a dot for each run; two standard errors in grey."""
    ranked = effects(records)
    height = TOP + STEP * len(ranked) + 26

    def x(value: float) -> float:
        return LABELS + WIDTH * (max(-LIMIT, min(LIMIT, value)) / LIMIT + 1) / 2

    title = (
        "Score relative to the published recipe; right is worse, clipped at the edges"
    )
    parts = [bars.text((LABELS + WIDTH) / 2, 18, title, "middle")]
    for fraction in (-1, -0.5, 0, 0.5, 1):
        value = fraction * LIMIT
        parts.append(_stroke(x(value), TOP - 8, x(value), height - 22, GRID))
        parts.append(bars.text(x(value), height - 8, percent(value), "middle"))
    for index, effect in enumerate(ranked):
        y = TOP + STEP * index
        colour = (
            ZERO if not effect.significant else WORSE if effect.mean > 0 else BETTER
        )
        band = x(2 * effect.error) - x(-2 * effect.error)
        parts += [
            bars.text(LABELS - 8, y + 4, effect.variant, "end"),
            f'<rect x="{x(-2 * effect.error):.1f}" y="{y - 6}" width="{band:.1f}" '
            f'height="12" fill="{GRID}"/>',
            _stroke(x(0), y, x(effect.mean), y, colour),
        ]
        for value in effect.each:
            parts.append(
                f'<circle cx="{x(value):.1f}" cy="{y}" r="3" fill="{colour}"/>'
            )
    return bars.sheet(LABELS + WIDTH + 40, height, parts, title)


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="2"/>'
    )
