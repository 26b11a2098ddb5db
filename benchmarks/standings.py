"""What came of contests, as tables."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import pages
from benchmarks.contest import SAMPLES
from benchmarks.rivals import OURS

Found = dict[str, Any]  # see Contest.hold
CLOCKS = {"cpu": "CPU time", "wall": "wall"}


def rate(images: int, turns: Sequence[dict[str, float]], clock: str) -> float:
    """Images/s of the median turn."""
    return images / statistics.median(turn[clock] for turn in turns)


def ratio(theirs: Found, own: Found, clock: str) -> str:
    """How many times as fast we are, turn by turn: median (lowest to highest)."""
    pairs = zip(theirs["turns"], own["turns"], strict=True)
    ratios = sorted(a[clock] / b[clock] for a, b in pairs)
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def training(images: int, found: Found) -> str:
    """Table of one contest: training, so many images a turn."""
    head, rows = [""], [[name] for name in found]
    for clock, words in CLOCKS.items():
        head.append(f"images/s, {words}")
        for row, took in zip(rows, found.values(), strict=True):
            row.append(f"{rate(images, took['turns'], clock):.1f}")
    for clock, words in CLOCKS.items() if OURS in found else ():
        head.append(f"{OURS} is faster by, {words}")
        for row, took in zip(rows, found.values(), strict=True):
            row.append(ratio(took, found[OURS], clock))
    head.append("peak memory, MB")
    for row, took in zip(rows, found.values(), strict=True):
        row.append(f"{took['turns'][-1]['rss'] / 1e6:.0f}")
    return pages.table(head, rows)


def beginnings(found: Found) -> str:
    """Table of one contest: from the command to the end of the first step."""
    rows = []
    for name, took in found.items():
        row = [name]
        for start in (took["cold"], took["warm"]):
            row.append(f"{start['cpu']:.1f}, {start['wall']:.1f}")
        rows.append([*row, f"{took['cold']['rss'] / 1e6:.0f}"])
    head = ["", "first step, nothing compiled, s", "again, s"]
    return pages.table([*head, "peak memory of the first, MB"], rows)


def sampling(found: Found) -> str:
    """Table of one contest: images/s of the trained generator."""
    rows = []
    for name, took in found.items():
        row = [name]
        for count, times in SAMPLES.items():
            turns = took["sampling"][str(count)]
            rates = [rate(count * times, turns, clock) for clock in CLOCKS]
            row.append(", ".join(f"{images:.0f}" for images in rates))
        rows.append(row)
    return pages.table(["", *(f"{n} a call, images/s" for n in SAMPLES)], rows)


def text(held: dict[str, dict[str, Any]]) -> str:
    """{name of a contest: what came of it} -> Markdown."""
    parts = []
    for name, contest in sorted(held.items()):
        found = contest["found"]
        some = next(iter(found.values()))
        about = ", ".join(f"{k} {v}" for k, v in contest["about"].items())
        parts += [
            f"### {name[0].upper()}{name[1:]}",
            f"{len(some['turns'])} turns of {contest['images']} images; {about}.",
            training(contest["images"], found).strip(),
            "CPU time, then wall:",
            beginnings(found).strip(),
        ]
        if "sampling" in some:
            parts.append(sampling(found).strip())
    return "\n\n".join(parts) + "\n"
