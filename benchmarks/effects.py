"""What came of an ablation: how much each part matters, beside the noise of seeds."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks import bars, pages
from benchmarks.arms import DEFAULT

Record = dict[str, Any]  # one run
Records = dict[str, list[Record]]  # arm -> its runs
SCORED = ("fid/cxr", "fid/texture")
STAYS = 1.15  # at most: the last look at val over the best one
# Columns of the table: heading -> the figure, and how it is written.
COLUMNS = {
    "FID, cxr": ("fid/cxr", ".2f"),
    "FID, texture": ("fid/texture", ".3f"),
    "KID, cxr": ("kid/cxr", ".4f"),
    "recall, cxr": ("recall/cxr", ".2f"),
    "coverage, cxr": ("coverage/cxr", ".2f"),
    "labels given back": ("eval/fidelity", ".2f"),
    "MS-SSIM above val": ("eval/repetition", "+.3f"),
}
ZERO, WORSE, BETTER, GRID = "#9aa5b1", "#b3261e", "#1e6fb3", "#e3e7eb"
LABELS, WIDTH, STEP, TOP = 260, 460, 20, 44
REACH = math.log(2)  # of the drawing, either way


class Effect(NamedTuple):
    """An arm beside the recipe as published; logarithms of the score."""

    arm: str
    each: tuple[float, ...]  # of each run
    mean: float  # above 0: worse than as published
    error: float  # standard, of the mean

    @property
    def sure(self) -> bool:
        """Beyond two standard errors; what others are compared with has none."""
        return abs(self.mean) > 2 * self.error > 0


def score(record: Record) -> float:
    """Logarithm of the geometric mean of both FIDs; lower is better."""
    return statistics.fmean(math.log(record["figures"][name]) for name in SCORED)


def whole(records: Sequence[Record]) -> list[Record]:
    """Those that came to their end."""
    return [record for record in records if "figures" in record]


def noise(found: Records) -> float:
    """Standard deviation of the score over seeds, within arms, all of them together.

    Raises:
        ValueError: no arm has two whole runs.
    """
    scores = [[score(r) for r in whole(records)] for records in found.values()]
    several = [some for some in scores if len(some) > 1]
    if not several:
        raise ValueError("no arm has two finished runs: nothing is known of the noise")
    squares = sum(statistics.variance(some) * (len(some) - 1) for some in several)
    return math.sqrt(squares / sum(len(some) - 1 for some in several))


def effects(found: Records) -> list[Effect]:
    """Of every arm that has a whole run, the worst arm first.

    Raises:
        ValueError: the published recipe has none; or see `noise`.
    """
    default = [score(record) for record in whole(found.get(DEFAULT, []))]
    if not default:
        raise ValueError(f"{DEFAULT!r} has no finished run to compare others with")
    spread, middle, result = noise(found), statistics.fmean(default), []
    for arm, records in found.items():
        each = tuple(score(record) - middle for record in whole(records))
        if each:
            error = spread * math.sqrt(1 / len(each) + 1 / len(default))
            error *= arm != DEFAULT
            result.append(Effect(arm, each, statistics.fmean(each), error))
    return sorted(result, key=lambda effect: -effect.mean)


def largest(found: Records, count: int, beside: Sequence[str]) -> list[str]:
    """Arms with the largest effects, either way; none of `beside`."""
    ranked = sorted(effects(found), key=lambda effect: -abs(effect.mean))
    return [effect.arm for effect in ranked if effect.arm not in beside][:count]


def line(arm: str, seed: int, record: Record) -> str:
    """One run in a line."""
    if "broken_at" in record:
        return f"{arm}, seed {seed}: not finite at {record['broken_at']:g} kimg"
    figures = record["figures"]
    told = ", ".join(
        f"{name} {figures[key]:{form}}" for name, (key, form) in COLUMNS.items()
    )
    return f"{arm}, seed {seed}, {record['cpu_seconds']:.0f} s: {told}"


def stays(record: Record) -> float:
    """The last look at val over the best one: KID, so near 0 it is noisy."""
    looks = [kid for _, kid in record["looks"]]
    return looks[-1] / min(looks)


def mean(records: Sequence[Record], figure: str) -> float:
    """Over whole runs."""
    return statistics.fmean(record["figures"][figure] for record in whole(records))


def percent(logarithm: float) -> str:
    """+12 %."""
    return f"{100 * math.expm1(logarithm):+.0f} %"


def row(effect: Effect, records: Sequence[Record]) -> list[str]:
    """An arm in the table: means over its whole runs."""
    runs = whole(records)
    cells = [effect.arm, "" if effect.arm == DEFAULT else percent(effect.mean)]
    if effect.sure:
        cells[1] = f"**{cells[1]}**"
    cells += [f"{mean(records, key):{form}}" for key, form in COLUMNS.values()]
    cells.append(f"{max(stays(record) for record in runs):.2f}")
    broken = len(records) - len(runs)
    cells.append(f"{len(records)}" + (f", {broken} NaN" if broken else ""))
    return cells


def text(found: Records, picture: str) -> str:
    """The measured part of the page; `picture` is the name of the drawing beside it."""
    known = effects(found)
    others = [effect for effect in known if effect.arm != DEFAULT]
    runs = [record for records in found.values() for record in records]
    broken = [record for record in runs if "broken_at" in record]
    size = runs[0]["resolution"]
    seconds = statistics.median(record["cpu_seconds"] for record in whole(runs))
    left = [e.arm for e in known if max(map(stays, whole(found[e.arm]))) > STAYS]
    variety = {e.arm: mean(found[e.arm], "recall/cxr") for e in known}
    said = {
        "Worse than as published": [e.arm for e in others if e.sure and e.mean > 0],
        "Better": [e.arm for e in others if e.sure and e.mean < 0],
        "Within the noise": [e.arm for e in others if not e.sure],
        "Recall in `cxr` less than half as high": [
            arm for arm, recall in variety.items() if recall < variety[DEFAULT] / 2
        ],
        f"Last look at val more than {STAYS:g} times the best": left,
    }
    lines = "".join(
        f"- {words}: {', '.join(names) or 'none'}.\n" for words, names in said.items()
    )
    head = ["arm", "score", *COLUMNS, "last / best KID", "runs"]
    rows = [row(effect, found[effect.arm]) for effect in known]
    for arm, records in found.items():
        if not whole(records):
            blank = [""] * (len(head) - 3)
            rows.append([arm, "never finished", *blank, f"{len(records)}"])
    return (
        f"{runs[0]['total_kimg']:g} kimg at {size} x {size} px, {len(runs)} runs of "
        f"about {seconds:.0f} s of CPU, {len(broken)} of them ended by NaN. One seed "
        "differs from the next by "
        f"{percent(noise(found))[1:]} in score (one standard deviation); bold is "
        f"beyond two standard errors.\n\n{lines}\n![Effect of each arm]({picture})\n\n"
        f"{pages.table(head, rows)}"
    )


def draw(found: Records) -> str:
    """SVG: a line for each arm, a dot for each run; two standard errors in grey."""
    known = effects(found)
    height = TOP + STEP * len(known) + 26

    def x(value: float) -> float:
        return LABELS + WIDTH * (max(-REACH, min(REACH, value)) / REACH + 1) / 2

    title = "Score beside the recipe as published; right is worse, the edge is beyond"
    parts = [bars.words((LABELS + WIDTH) / 2, 18, title, "middle")]
    for share in (-1, -0.5, 0, 0.5, 1):
        value = share * REACH
        parts.append(_stroke(x(value), TOP - 8, x(value), height - 22, GRID))
        parts.append(bars.words(x(value), height - 8, percent(value), "middle"))
    for place, effect in enumerate(known):
        y = TOP + STEP * place
        colour = ZERO if not effect.sure else WORSE if effect.mean > 0 else BETTER
        band = x(2 * effect.error) - x(-2 * effect.error)
        parts += [
            bars.words(LABELS - 8, y + 4, effect.arm, "end"),
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
