r"""Puts evaluations of several generators side by side.

    python -m benchmarks.quality --out=docs/quality.md \
      --report="cxr_gan=runs/report" --report="PyTorch recipe=runs/report_recipe" \
      --report="PCA-Gaussian=runs/report_gaussian" \
      --run=runs/kermany64_250 --recipe=runs/recipe --dataset=path/to/chest_xray

Each report is a folder that `python -m cxr_gan.evaluate` wrote, of as many images and
against the same real ones. The second table looks at run and recipe (that of
`benchmarks/rivals/recipe.py`) as a run looks at itself while it trains.
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
from cxr_gan import data, given, monitor
from cxr_gan.evaluation.figures import HEADLINE, POOLED
from cxr_gan.evaluation.verdict import HIGHEST

MARK = "quality"
AT_ONCE = 0.1  # kimg; steps of different batches do not end together
Report = dict[str, Any]


class Row(NamedTuple):
    """A figure of a report, and how good a value is: the highest is the best."""

    metric: str
    space: str
    sets: str
    goodness: Callable[[float], float]


high, low = operator.pos, operator.neg  # goodness of what should be so


def near_0(value: float) -> float:
    """Goodness of what should be near 0."""
    return -abs(value)


OF_ALL = {
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
    "class given back by the judge": Row("label_fidelity", "judge", "generated", high),
    "nearer to training than 99 % of new patients, cxr": Row(
        "below_first_percentile", "cxr", "generated~train", low
    ),
}
OF_CLASSES = {
    "likeness (MS-SSIM) above A and B": Row(
        "ms_ssim", "pairs", "generated~A+B", near_0
    ),
    "finest octave, dB": Row("power", HIGHEST, HEADLINE, near_0),
}


def reports_of(named: Sequence[str]) -> dict[str, Report]:
    """NAME=FOLDER, several -> {name: report.json}.

    Raises:
        ValueError: one is not so written, is no report, or of other real images or
            another number of generated ones than the first.
        OSError: it cannot be read.
    """
    found: dict[str, Report] = {}
    for one in named:
        name, equals, folder = one.partition("=")
        if not equals or not name or name in found:
            raise ValueError(f"--report={one}: give NAME=FOLDER, each name once")
        path = pathlib.Path(folder) / "report.json"
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            same = world_of(found[name]) == world_of(next(iter(found.values())))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no report ({error!r})") from error
        if not same:
            raise ValueError(
                f"{path} is of other real images, or another number of generated ones, "
                f"than {named[0]}; evaluate them alike"
            )
    return found


def world_of(report: Report) -> tuple[Any, ...]:
    """What must be the same for figures to compare."""
    counts = report["images"]["counts"]
    identity = report["dataset"]["identity"]
    return identity, report["resolution"], report["seed"], counts, report["spaces"]


def rows_of(reports: dict[str, Report]) -> list[dict[str, Any]]:
    """[{"name", "best": [names], "values": {name: [value, low, high]}, "floor"}].

    Raises:
        ValueError: a report lacks a figure.
    """
    classes = next(iter(reports.values()))["class_names"]
    wanted = [(name, row, POOLED) for name, row in OF_ALL.items()]
    for name, row in OF_CLASSES.items():
        wanted += [(f"{name}, {group}", row, group) for group in classes]
    rows = []
    for name, row, group in wanted:
        values = {}
        for author, report in reports.items():
            told = figure_of(report, (row.metric, row.space, group, row.sets))
            values[author] = [told["value"], told["low"], told["high"]]
        good = {author: row.goodness(value[0]) for author, value in values.items()}
        best = [author for author in good if good[author] == max(good.values())]
        floor = told["floor"]["value"]
        rows.append({"name": name, "best": best, "values": values, "floor": floor})
    return rows


def figure_of(report: Report, key: tuple[str, str, str, str]) -> dict[str, Any]:
    """One figure of a report. Raises ValueError where it lacks it."""
    for row in report["figures"]:
        if (row["metric"], row["space"], row["group"], row["sets"]) == key:
            return row
    raise ValueError(f"a report lacks {', '.join(key)}: evaluate those images anew")


def course(
    run: pathlib.Path, recipe: pathlib.Path, dataset: data.Dataset
) -> list[dict[str, float]]:
    """KID to val and minutes of both, wherever images of the recipe were kept.

    Raises:
        ValueError, OSError: the run did not look there, or a file is not there.
    """
    reference = monitor.reference_of(dataset)
    if reference is None:
        raise ValueError("val has too few images of a class")
    ours = dict(curves.points_of(run))
    told = json.loads((recipe / "recipe.json").read_text(encoding="utf-8"))["course"]
    points = []
    for kept, seconds in ((point["kimg"], point["cpu_seconds"]) for point in told):
        kimg = min(ours, key=lambda look: abs(look - kept))
        if abs(kimg - kept) > AT_ONCE:
            raise ValueError(f"{run} did not look at val at {kept:g} kimg")
        read = given.read(str(recipe / f"{kept:03.0f}.npz"))
        labels = read.labels(dataset.class_names)
        each = [np.flatnonzero(labels == c) for c in range(len(dataset.class_names))]
        rows = np.concatenate([some[: monitor.PER_CLASS] for some in each])
        figures = monitor.figures(reference, read.images[rows], labels[rows])
        theirs = {"theirs": figures[monitor.BEST], "their minutes": seconds / 60}
        own = {"ours": ours[kimg], "our minutes": minutes_of(run, kimg)}
        points.append({"kimg": kimg, **own, **theirs})
    return points


def minutes_of(run: pathlib.Path, kimg: float) -> float:
    """Of training until then, as metrics.jsonl tells its speed: by the wall."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seconds, before = 0.0, 0.0
    for line in map(json.loads, lines):
        if "time/img_per_sec" in line and line["kimg"] <= kimg:
            seconds += 1000 * (line["kimg"] - before) / line["time/img_per_sec"]
            before = line["kimg"]
    return seconds / 60


def text(figures: dict[str, Any]) -> str:
    """Markdown: both tables; the best of a row is bold."""
    authors, rows = [*figures["verdicts"]], []
    for row in figures["rows"]:
        cells = []
        for author in authors:
            value, least, most = row["values"][author]
            mark = "**" * (author in row["best"])
            cells.append(f"{mark}{value:.3g}{mark} ({least:.3g} to {most:.3g})")
        rows.append([row["name"], *cells, f"{row['floor']:.3g}"])
    rows.append(["verdict", *figures["verdicts"].values(), ""])
    head = ["kimg"]
    for author in authors[:2]:
        head += [f"{author}: KID to val", "minutes"]
    points = [
        [
            f"{point['kimg']:g}",
            *(f"{point['ours']:.4f}", f"{point['our minutes']:.1f}"),
            *(f"{point['theirs']:.4f}", f"{point['their minutes']:.1f}"),
        ]
        for point in figures["course"]
    ]
    both = pages.table(["", *authors, "floor: real images"], rows)
    return f"{both}\n{pages.table(head, points)}"


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out = pathlib.Path(values.out)
        pages.earlier(out, MARK)
        reports = reports_of(values.report)
        size = next(iter(reports.values()))["resolution"]
        dataset = data.load(values.dataset, size, split_seed=0)
        verdicts = {
            name: report["verdict"].removeprefix("verdict: ")
            for name, report in reports.items()
        }
        run, recipe = pathlib.Path(values.run), pathlib.Path(values.recipe)
        figures = {
            "rows": rows_of(reports),
            "verdicts": verdicts,
            "course": course(run, recipe, dataset),
        }
        pages.write(out, figures, MARK, text)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {out} and {pages.file_of(out, MARK)}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, so that tests can give their own."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_multi_string("report", None, "NAME=FOLDER; ours, theirs, ..", **own)
    flags.DEFINE_string("run", None, "Workdir of our training.", **own)
    flags.DEFINE_string("recipe", None, "What the recipe wrote.", **own)
    flags.DEFINE_string("dataset", None, "Real images, as config.dataset.", **own)
    flags.DEFINE_string("out", None, "Page with the marks, Markdown.", **own)
    flags.mark_flags_as_required(["report", "run", "recipe", "dataset", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
