"""Tables of the results of `benchmarks.speed`."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import pages
from benchmarks.baselines import OURS
from benchmarks.contest import SAMPLES

Results = dict[str, Any]  # see contest.Comparison.run
CLOCKS = {"cpu": "CPU time", "wall": "wall"}


def rate(images: int, turns: Sequence[dict[str, float]], clock: str) -> float:
    """images/s in the median turn."""
    return images / statistics.median(turn[clock] for turn in turns)


def ratio(other: Results, own: Results, clock: str) -> str:
    """Speed-up of cxr_gan, turn by turn: "median (lowest to highest)"."""
    pairs = zip(other["turns"], own["turns"], strict=True)
    ratios = sorted(a[clock] / b[clock] for a, b in pairs)
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def training(images: int, results: Results) -> str:
    """Training speed; `images` is the number of images per turn."""
    head, rows = [""], [[name] for name in results]
    for clock, label in CLOCKS.items():
        head.append(f"images/s, {label}")
        for row, timing in zip(rows, results.values(), strict=True):
            row.append(f"{rate(images, timing['turns'], clock):.1f}")
    for clock, label in CLOCKS.items() if OURS in results else ():
        head.append(f"{OURS} is faster by, {label}")
        for row, timing in zip(rows, results.values(), strict=True):
            row.append(ratio(timing, results[OURS], clock))
    head.append("peak memory, MB")
    for row, timing in zip(rows, results.values(), strict=True):
        row.append(f"{timing['turns'][-1]['rss'] / 1e6:.0f}")
    return pages.table(head, rows)


def first_steps(results: Results) -> str:
    """Time from the start of the process to the end of the first step."""
    rows = []
    for name, timing in results.items():
        row = [name]
        for start in (timing["cold"], timing["warm"]):
            row.append(f"{start['cpu']:.1f}, {start['wall']:.1f}")
        rows.append([*row, f"{timing['cold']['rss'] / 1e6:.0f}"])
    head = ["", "first step, nothing compiled, s", "again, s"]
    return pages.table([*head, "peak memory of the first, MB"], rows)


def sampling(results: Results) -> str:
    """images/s of sampling from the trained generator."""
    rows = []
    for name, timing in results.items():
        row = [name]
        for count, times in SAMPLES.items():
            turns = timing["sampling"][str(count)]
            rates = [rate(count * times, turns, clock) for clock in CLOCKS]
            row.append(", ".join(f"{images:.0f}" for images in rates))
        rows.append(row)
    return pages.table(["", *(f"{n} a call, images/s" for n in SAMPLES)], rows)


def text(comparisons: dict[str, dict[str, Any]]) -> str:
    """{name of a comparison: its results} -> Markdown."""
    parts = []
    for name, comparison in sorted(comparisons.items()):
        results = comparison["found"]
        first = next(iter(results.values()))
        about = ", ".join(f"{k} {v}" for k, v in comparison["about"].items())
        parts += [
            f"### {name[0].upper()}{name[1:]}",
            f"{len(first['turns'])} turns of {comparison['images']} images; {about}.",
            training(comparison["images"], results).strip(),
            "CPU time, then wall:",
            first_steps(results).strip(),
        ]
        if "sampling" in first:
            parts.append(sampling(results).strip())
    return "\n\n".join(parts) + "\n"
