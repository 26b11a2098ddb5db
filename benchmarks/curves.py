r"""Draws the validation KID of a run over its training.

    python -m benchmarks.curves --run=runs/kermany64 --dataset=path/to/chest_xray \
      --out=kermany64.svg

The curve is `eval/kid` in metrics.jsonl, the mean over classes of the KID in `cxr`
space. The grey line is the same metric for equally many training images: what a
generator that copies them would reach.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging

from cxr_gan import data
from cxr_gan.evaluation.report import plots
from cxr_gan.training import validation


def points_of(run: pathlib.Path) -> list[tuple[float, float]]:
    """(kimg, eval/kid) of each validation.

    Raises:
        ValueError: the run was never validated.
    """
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    validated = [
        line for line in map(json.loads, lines) if validation.BEST_METRIC in line
    ]
    if not validated:
        raise ValueError(f"{run} was never validated; set config.eval_kimg above 0")
    return [(line["kimg"], line[validation.BEST_METRIC]) for line in validated]


def training_images_kid(dataset: data.Dataset) -> float:
    """eval/kid of training images in place of generated ones.

    Raises:
        ValueError: val has too few images of a class.
    """
    reference = validation.make_reference(dataset)
    if reference is None:
        raise ValueError("val has too few images of a class")
    labels = dataset.train.labels
    by_class = [
        np.random.default_rng(label).permutation(np.flatnonzero(labels == label))
        for label in range(len(dataset.class_names))
    ]
    rows = np.concatenate(
        [members[: validation.IMAGES_PER_CLASS] for members in by_class]
    )
    return validation.validation_metrics(
        reference, dataset.train.images[rows], labels[rows]
    )[validation.BEST_METRIC]


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Writes the drawing; returns the exit code."""
    run = pathlib.Path(values.run)
    config = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    dataset = data.load(
        values.dataset, config["resolution"], split_seed=config["split_seed"]
    )
    points, reference = points_of(run), training_images_kid(dataset)
    title = "KID to val, mean over classes; grey: training images"
    pathlib.Path(values.out).write_text(plots.training_curve(points, reference, title))
    best = min(points, key=lambda point: point[1])
    print(
        f"lowest {best[1]:.4f} at {best[0]:.1f} kimg, last {points[-1][1]:.4f} at "
        f"{points[-1][0]:.1f}; training images {reference:.4f}"
    )
    return 0


def cli() -> None:
    """Entry point of the command line."""
    flags.DEFINE_string("run", None, "Workdir of a run.")
    flags.DEFINE_string("dataset", None, "Its data set, written as config.dataset.")
    flags.DEFINE_string("out", None, "SVG to write.")
    flags.mark_flags_as_required(["run", "dataset", "out"])
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
