"""Compares generated images with real images and reports faults.

    python -m cxr_gan.evaluate --model=runs/acgan --dataset=path/to/chest_xray --out=DIR
    python -m cxr_gan.evaluate --images=FOLDER --dataset=path/to/chest_xray --out=DIR

Writes DIR/report.json, every metric with its 95 % interval and real-data reference, and
DIR/report.html, a self-contained page. The same images and flags on the same kind of
machine give the same report.json. With --utility, classifiers are also trained on the
images, which takes minutes; with --pairs, images of the same latents under each class
are compared; with --membership, it also measures whether training patients can be
distinguished from others. Exit codes: 0 success, 1 invalid input, 3 images are copied
(see --most_copied).
"""

import contextlib
import functools
from typing import Any

from absl import flags

from cxr_gan import evaluation
from cxr_gan.data import flags as data_flags
from cxr_gan.evaluation import evaluator, image_input
from cxr_gan.evaluation.report import summary
from cxr_gan.runtime import cli, multihost

EXIT_COPIED = 3  # exit code


@cli.command(example="--dataset=path/to/chest_xray")
def main(values: flags.FlagValues) -> int:
    """Checks the flags, evaluates and writes both reports. Returns the exit code."""
    out = cli.new_output_folder(values.out)
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)  # before the work: it may not be possible
    try:
        report = evaluation.evaluate(
            values.images,
            dataset=values.dataset,
            model=values.model,
            out=out,
            spaces=values.spaces,
            utility=values.utility,
            class_pairs=values.pairs,
            membership=values.membership,
            num=values.num,
            seed=values.seed,
            options=data_flags.options(values),
        )
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):  # not empty
                out.rmdir()
        raise
    print(summary(report))
    print(f"wrote report.json and report.html to {out}")
    print(report["verdict"])
    limit = values.most_copied
    copied = limit is not None and evaluator.exceeds_copy_limit(report, limit)
    return EXIT_COPIED if copied else 0


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; not at import, because other commands share flag names."""
    own: dict[str, Any] = {"flag_values": values}
    text = functools.partial(flags.DEFINE_string, **own)
    text(
        "model",
        None,
        "Model to sample images from: workdir of a training run, or a published model.",
    )
    text("images", None, f"Images to evaluate: {image_input.LAYOUTS}.")
    text("dataset", None, "Real images, as in config.dataset of a training run.")
    text("out", None, "New or empty folder to write to.")
    text(
        "spaces",
        "cxr,texture",
        "Feature spaces of the distances, comma-separated: cxr, texture, onnx:FILE.",
    )
    most_copied = (
        "Exit with code 3 if the share of images nearer to a training image than 99 % "
        "of held-out images exceeds this, or if there is an exact or near copy."
    )
    flags.DEFINE_float("most_copied", None, most_copied, 0.0, 1.0, **own)
    utility_help = (
        "Also train classifiers on the images and on real images, and compare them on "
        "val."
    )
    flags.DEFINE_boolean("utility", False, utility_help, **own)
    pairs_help = "Also compare images of the same latents under each class."
    flags.DEFINE_boolean("pairs", False, pairs_help, **own)
    membership_help = (
        "Also measure whether training patients can be distinguished from others."
    )
    flags.DEFINE_boolean("membership", False, membership_help, **own)
    num = "Number of images to sample from a model, equally many of each class."
    flags.DEFINE_integer("num", 2000, num, 1, **own)
    flags.DEFINE_integer("seed", 0, "Seed of all random choices.", 0, 2**32 - 1, **own)
    flags.DEFINE_boolean("multihost", False, multihost.FLAG_HELP, **own)
    data_flags.define(values)
    flags.mark_flags_as_required(["dataset", "out"], **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
