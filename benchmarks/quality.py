"""Compares the evaluations of several generators in one table.

    python -m benchmarks.quality --out=quality.json \
      --report="cxr_gan=runs/report" --report="PyTorch recipe=runs/report_recipe"

Each report is a folder that `python -m cxr_gan.evaluate` wrote, of equally many images
and the same real ones; `benchmarks.train_baseline` makes images of baselines.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from benchmarks import command_line
from cxr_gan.evaluation.report import text
from cxr_gan.evaluation.results import HEADLINE, POOLED
from cxr_gan.evaluation.verdict import HIGHEST

Report = dict[str, Any]
# Name of a row of the table -> metric, space and sets.
POOLED_ROWS = {
    **{
        f"{name}, {space}": (name.lower(), space, HEADLINE)
        for space in ("cxr", "texture")
        for name in ("FID", "KID", "precision", "recall", "density", "coverage")
    },
    "label accuracy": ("label_accuracy", "classifier", "generated"),
    "nearer to training than 99 % of val, cxr": (
        *("below_first_percentile", "cxr", "generated~train"),
    ),
}
CLASS_ROWS = {
    "MS-SSIM above real (A and B)": ("ms_ssim", "pairs", "generated~A+B"),
    "finest octave, dB": ("power", HIGHEST, HEADLINE),
}


def read_reports(arguments: Sequence[str]) -> dict[str, Report]:
    """Several NAME=FOLDER -> {name: report.json}.

    Raises:
        ValueError: an argument has another form, is not a report, or is a report of
            other real images or another number of generated ones than the first.
        OSError: a report cannot be read.
    """
    reports: dict[str, Report] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if not equals or not name or name in reports:
            raise ValueError(f"--report={argument}: give NAME=FOLDER, each name once")
        path = pathlib.Path(folder) / "report.json"
        try:
            reports[name] = json.loads(path.read_text(encoding="utf-8"))
            first = next(iter(reports.values()))
            is_comparable = conditions(reports[name]) == conditions(first)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a report ({error!r})") from error
        if not is_comparable:
            raise ValueError(
                f"{path} is of other real images, or another number of generated ones, "
                f"than {arguments[0]}; evaluate both in the same way"
            )
    return reports


def conditions(report: Report) -> tuple[Any, ...]:
    """What must be equal in reports whose metrics are compared."""
    counts = report["images"]["counts"]
    identity = report["dataset"]["identity"]
    return identity, report["resolution"], report["seed"], counts, report["spaces"]


def compare(reports: dict[str, Report]) -> dict[str, list[Report]]:
    """{name of a row of the table: that metric of each report}.

    Raises:
        ValueError: a report lacks a metric.
    """
    required = {name: (*key, POOLED) for name, key in POOLED_ROWS.items()}
    for group in next(iter(reports.values()))["class_names"]:
        for name, key in CLASS_ROWS.items():
            required[f"{name}, {group}"] = (*key, group)
    found: dict[str, list[Report]] = {name: [] for name in required}
    for title, report in reports.items():
        columns = ("metric", "space", "sets", "group")
        by_key = {tuple(row[c] for c in columns): row for row in report["metrics"]}
        for name, key in required.items():
            if key not in by_key:
                raise ValueError(f"{title} lacks {', '.join(key)}: evaluate it again")
            found[name].append(by_key[key])
    return found


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Compares the reports of the flags."""
    reports = read_reports(values.report)
    rows = compare(reports)
    lines = [
        [name, *map(text.format_estimate, (*found, found[-1]["reference"]))]
        for name, found in rows.items()
    ]
    verdicts = [one["verdict"].removeprefix("verdict: ") for one in reports.values()]
    lines.append(["verdict", *verdicts, ""])
    table = command_line.table(["", *reports, "real-data reference"], lines)
    return {"reports": [*reports], "rows": rows}, table


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_multi_string("report", None, "NAME=FOLDER.", flag_values=values)
    flags.mark_flag_as_required("report", flag_values=values)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
