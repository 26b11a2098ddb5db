r"""Draws how near a run came to val while it trained.

    python -m benchmarks.curves --run=runs/kermany64 --dataset=path/to/chest_xray \
      --out=docs/kermany64.svg

The line is `eval/kid` of metrics.jsonl, the mean over classes of KID in `cxr` space.
The grey one is the same figure of as many training images: what copying them would get.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging

from cxr_gan import data, monitor
from cxr_gan.page import plots


def points_of(run: pathlib.Path) -> list[tuple[float, float]]:
    """(kimg, eval/kid) of each look at val.

    Raises:
        ValueError: there was none.
    """
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    looks = [line for line in map(json.loads, lines) if monitor.BEST in line]
    if not looks:
        raise ValueError(f"{run} never looked at val; see config.evaluate_kimg")
    return [(look["kimg"], look[monitor.BEST]) for look in looks]


def floor_of(dataset: data.Dataset) -> float:
    """eval/kid of training images."""
    reference = monitor.reference_of(dataset)
    if reference is None:
        raise ValueError("the data set has too small a val")
    labels = dataset.train.labels
    some = [
        np.random.default_rng(label).permutation(np.flatnonzero(labels == label))
        for label in range(len(dataset.class_names))
    ]
    rows = np.concatenate([members[: monitor.PER_CLASS] for members in some])
    return monitor.figures(reference, dataset.train.images[rows], labels[rows])[
        monitor.BEST
    ]


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    run = pathlib.Path(values.run)
    config = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    dataset = data.load(
        values.dataset, config["resolution"], split_seed=config["split_seed"]
    )
    points, floor = points_of(run), floor_of(dataset)
    title = "KID to val, mean over classes; grey: training images"
    pathlib.Path(values.out).write_text(plots.course(points, floor, title))
    best = min(points, key=lambda point: point[1])
    print(
        f"lowest {best[1]:.4f} at {best[0]:.1f} kimg, last {points[-1][1]:.4f} at "
        f"{points[-1][0]:.1f}; training images {floor:.4f}"
    )
    return 0


def cli() -> None:
    """The command as typed in a terminal."""
    flags.DEFINE_string("run", None, "Workdir of a training.")
    flags.DEFINE_string("dataset", None, "Its data, as config.dataset.")
    flags.DEFINE_string("out", None, "SVG to write.")
    flags.mark_flags_as_required(["run", "dataset", "out"])
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
