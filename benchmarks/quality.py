r"""Tables that compare the evaluations of several generators.

    python -m benchmarks.quality --out=quality.md \
      --report="cxr_gan=runs/report" --report="PyTorch recipe=runs/report_recipe" \
      --report="PCA-Gaussian=runs/report_gaussian" \
      --run=runs/kermany64_250 --recipe=runs/recipe --dataset=path/to/chest_xray

Each report is a folder that `python -m cxr_gan.evaluate` wrote, of equally many images
and the same real ones. The second table compares --run with --recipe (the output of
`benchmarks/baselines/recipe.py`) by the validation metrics of a training.
"""

import json
import operator
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags, logging

from benchmarks import curves, pages
from cxr_gan import data
from cxr_gan.evaluation import image_input
from cxr_gan.evaluation.results import HEADLINE, POOLED
from cxr_gan.evaluation.verdict import HIGHEST
from cxr_gan.training import validation

MARK = "quality"
TOLERANCE = 0.1  # kimg; batch sizes differ, so steps end at different kimg
Report = dict[str, Any]


class Row(NamedTuple):
    """A metric of a report; `goodness` of its value is highest for the best."""

    metric: str
    space: str
    sets: str
    goodness: Callable[[float], float]


high, low = operator.pos, operator.neg  # goodness where higher, lower is better


def near_0(value: float) -> float:
    """Goodness where values near 0 are better."""
    return -abs(value)


POOLED_ROWS = {
    f"{name}, {space}": Row(name.lower(), space, HEADLINE, goodness)
    for space in ("cxr", "texture")
    for name, goodness in (
        ("FID", low),
        ("KID", low),
        ("precision", high),
        ("recall", high),
        ("density", high),
        ("coverage", high),
    )
} | {
    "label accuracy": Row("label_accuracy", "classifier", "generated", high),
    "nearer to training than 99 % of val, cxr": Row(
        "below_first_percentile", "cxr", "generated~train", low
    ),
}
CLASS_ROWS = {
    "MS-SSIM above real (A and B)": Row("ms_ssim", "pairs", "generated~A+B", near_0),
    "finest octave, dB": Row("power", HIGHEST, HEADLINE, near_0),
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


def rows_of(reports: dict[str, Report]) -> list[dict[str, Any]]:
    """Rows of the table: name, names of the best, estimates, real-data reference.

    Estimates are {name of the report: [value, low, high]}.

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
            metric = metric_of(report, (row.metric, row.space, group, row.sets))
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


def metric_of(report: Report, key: tuple[str, str, str, str]) -> dict[str, Any]:
    """One row of a report. Raises ValueError if the report lacks it."""
    for row in report["metrics"]:
        if (row["metric"], row["space"], row["group"], row["sets"]) == key:
            return row
    raise ValueError(f"a report lacks {', '.join(key)}: evaluate its images again")


def training_course(
    run: pathlib.Path, recipe: pathlib.Path, dataset: data.Dataset
) -> list[dict[str, float]]:
    """KID to val and minutes of both trainings, where the recipe saved images.

    Raises:
        ValueError, OSError: the run was not validated there, or a file is missing.
    """
    reference = validation.make_reference(dataset)
    if reference is None:
        raise ValueError("val has too few images of a class")
    ours = dict(curves.points_of(run))
    text = (recipe / "recipe.json").read_text(encoding="utf-8")
    points = []
    for saved in json.loads(text)["course"]:
        kimg = min(ours, key=lambda validated: abs(validated - saved["kimg"]))
        if abs(kimg - saved["kimg"]) > TOLERANCE:
            raise ValueError(f"{run} was not validated at {saved['kimg']:g} kimg")
        images = image_input.read(str(recipe / f"{saved['kimg']:03.0f}.npz"))
        labels = images.labels(dataset.class_names)
        by_class = [
            np.flatnonzero(labels == c) for c in range(len(dataset.class_names))
        ]
        rows = np.concatenate([own[: validation.IMAGES_PER_CLASS] for own in by_class])
        metrics = validation.validation_metrics(
            reference, images.images[rows], labels[rows]
        )
        points.append(
            {
                "kimg": kimg,
                "ours": ours[kimg],
                "our minutes": minutes_of(run, kimg),
                "theirs": metrics[validation.BEST_METRIC],
                "their minutes": saved["cpu_seconds"] / 60,
            }
        )
    return points


def minutes_of(run: pathlib.Path, kimg: float) -> float:
    """Wall minutes of training until then, from the speeds in metrics.jsonl."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seconds, last_kimg = 0.0, 0.0
    for line in map(json.loads, lines):
        if "time/images_per_second" in line and line["kimg"] <= kimg:
            seconds += (
                1000 * (line["kimg"] - last_kimg) / line["time/images_per_second"]
            )
            last_kimg = line["kimg"]
    return seconds / 60


def text(results: dict[str, Any]) -> str:
    """Both tables as Markdown; the best value of a row is bold."""
    models, rows = [*results["verdicts"]], []
    for row in results["rows"]:
        cells = []
        for model in models:
            value, low_end, high_end = row["values"][model]
            bold = "**" * (model in row["best"])
            cells.append(f"{bold}{value:.3g}{bold} ({low_end:.3g} to {high_end:.3g})")
        rows.append([row["name"], *cells, f"{row['reference']:.3g}"])
    rows.append(["verdict", *results["verdicts"].values(), ""])
    head = ["kimg"]
    for model in models[:2]:
        head += [f"{model}: KID to val", "minutes"]
    points = [
        [
            f"{point['kimg']:g}",
            *(f"{point['ours']:.4f}", f"{point['our minutes']:.1f}"),
            *(f"{point['theirs']:.4f}", f"{point['their minutes']:.1f}"),
        ]
        for point in results["course"]
    ]
    comparison = pages.table(["", *models, "real-data reference"], rows)
    return f"{comparison}\n{pages.table(head, points)}"


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Writes both tables; returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        out = pathlib.Path(values.out)
        pages.earlier(out, MARK)
        reports = read_reports(values.report)
        size = next(iter(reports.values()))["resolution"]
        dataset = data.load(values.dataset, size, split_seed=0)
        verdicts = {
            name: report["verdict"].removeprefix("verdict: ")
            for name, report in reports.items()
        }
        run, recipe = pathlib.Path(values.run), pathlib.Path(values.recipe)
        results = {
            "rows": rows_of(reports),
            "verdicts": verdicts,
            "course": training_course(run, recipe, dataset),
        }
        pages.write(out, results, MARK, text)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {out} and {pages.file_of(out, MARK)}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """A function, so that tests can define the flags on their own FlagValues."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_multi_string(
        "report",
        None,
        "NAME=FOLDER; first that of --run, then that of --recipe.",
        **own,
    )
    flags.DEFINE_string("run", None, "Workdir of a run of cxr_gan.", **own)
    flags.DEFINE_string("recipe", None, "Folder that the recipe wrote.", **own)
    flags.DEFINE_string(
        "dataset", None, "Real images, written as config.dataset.", **own
    )
    flags.DEFINE_string("out", None, "Markdown page with the marks.", **own)
    flags.mark_flags_as_required(["report", "run", "recipe", "dataset", "out"], **own)


def cli() -> None:
    """Entry point of the command line."""
    define_flags()
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
