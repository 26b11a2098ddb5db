"""Compares the evaluations of several generators in one table.

    python -m benchmarks.quality --out=quality.json \
      --report="cxr_gan=runs/report" --report="PyTorch recipe=runs/report_recipe"

Each report is a folder that `python -m cxr_gan.evaluate` wrote, of equally many images
and the same real ones; `benchmarks.train_baseline` makes images of baselines. The best
value of a row is bold.
"""

import json
import operator
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags

from benchmarks import command_line
from cxr_gan.evaluation.results import HEADLINE, POOLED
from cxr_gan.evaluation.verdict import HIGHEST

Report = dict[str, Any]


class Row(NamedTuple):
    """A metric of a report; `goodness` of its value is highest for the best."""

    metric: str
    space: str
    sets: str
    goodness: Callable[[float], float]


higher, lower = operator.pos, operator.neg  # goodness where higher, lower is better


def nearer_0(value: float) -> float:
    """Goodness where values near 0 are better."""
    return -abs(value)


POOLED_ROWS = {
    f"{name}, {space}": Row(name.lower(), space, HEADLINE, goodness)
    for space in ("cxr", "texture")
    for name, goodness in (
        *(("FID", lower), ("KID", lower), ("precision", higher)),
        *(("recall", higher), ("density", higher), ("coverage", higher)),
    )
} | {
    "label accuracy": Row("label_accuracy", "classifier", "generated", higher),
    "nearer to training than 99 % of val, cxr": Row(
        "below_first_percentile", "cxr", "generated~train", lower
    ),
}
CLASS_ROWS = {
    "MS-SSIM above real (A and B)": Row("ms_ssim", "pairs", "generated~A+B", nearer_0),
    "finest octave, dB": Row("power", HIGHEST, HEADLINE, nearer_0),
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


def compare(reports: dict[str, Report]) -> list[dict[str, Any]]:
    """Rows of the table: name, names of the best, values, real-data reference.

    Values are {name of the report: [value, low, high]}.

    Raises:
        ValueError: a report lacks a metric.
    """
    classes = next(iter(reports.values()))["class_names"]
    required = [(name, row, POOLED) for name, row in POOLED_ROWS.items()]
    for name, row in CLASS_ROWS.items():
        required += [(f"{name}, {group}", row, group) for group in classes]
    rows = []
    for name, row, group in required:
        values = {}
        for model, report in reports.items():
            metric = find_metric(report, (row.metric, row.space, group, row.sets))
            values[model] = [metric["value"], metric["low"], metric["high"]]
        goodness = {model: row.goodness(value[0]) for model, value in values.items()}
        highest = max(goodness.values())
        rows.append(
            {
                "name": name,
                "best": [model for model in goodness if goodness[model] == highest],
                "values": values,
                "reference": metric["reference"]["value"],
            }
        )
    return rows


def find_metric(report: Report, key: tuple[str, str, str, str]) -> dict[str, Any]:
    """One row of a report. Raises ValueError if the report lacks it."""
    for row in report["metrics"]:
        if (row["metric"], row["space"], row["group"], row["sets"]) == key:
            return row
    raise ValueError(f"a report lacks {', '.join(key)}: evaluate its images again")


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Compares the reports of the flags."""
    reports = read_reports(values.report)
    verdicts = {
        name: report["verdict"].removeprefix("verdict: ")
        for name, report in reports.items()
    }
    rows, lines = compare(reports), []
    for row in rows:
        line = [row["name"]]
        for model, (value, low, high) in row["values"].items():
            bold = "**" * (model in row["best"])
            line.append(f"{bold}{value:.3g}{bold} ({low:.3g} to {high:.3g})")
        lines.append([*line, f"{row['reference']:.3g}"])
    lines.append(["verdict", *verdicts.values(), ""])
    text = command_line.table(["", *reports, "real-data reference"], lines)
    return {"rows": rows, "verdicts": verdicts}, text


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_multi_string("report", None, "NAME=FOLDER.", flag_values=values)
    flags.mark_flag_as_required("report", flag_values=values)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
