r"""Whether generated images help a classifier when one class has few images.

    python -m benchmarks.utility --dataset=path/to/chest_xray --out=runs/utility

For each of --sizes, a generator is trained on that many images of the class --rare and
on all images of the other classes, in DIR/few-SIZE. Classifiers are then trained on
exactly these images, with and without generated ones (see
`cxr_gan.evaluation.utility`). The table is written to DIR/utility.md. An evaluation
takes ten minutes. Existing results are not computed again.

Arguments after -- are passed to the training: -- --config.total_kimg=100.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging

from cxr_gan import data
from cxr_gan.evaluation import utility
from cxr_gan.evaluation.report import text

HEAD = """# Utility of generated images

Made by

    python -m benchmarks.utility --dataset=path/to/chest_xray --out=DIR

AUROC on val, with 95 % intervals. {method}

"""


def samples_of(size: int, rare: str, class_names: tuple[str, ...]) -> tuple[int, ...]:
    """samples_per_class: `size` for the rare class, 0 (all) for the others.

    Raises:
        ValueError: there is no such class, or `size` is less than 1.
    """
    if rare not in class_names:
        raise ValueError(
            f"--rare={rare}: no such class; give one of {', '.join(class_names)}"
        )
    if size < 1:
        raise ValueError(
            f"--sizes={size} is below 1; give numbers of images, as 100,250"
        )
    return tuple(size if name == rare else 0 for name in class_names)


def run(*arguments: str) -> None:
    """Runs a module of cxr_gan as a command.

    Raises:
        ChildProcessError: its exit code is not 0.
    """
    code = subprocess.run([sys.executable, "-m", *arguments], check=False).returncode
    if code:
        raise ChildProcessError(
            f"python -m {' '.join(arguments)} ended with exit code {code}"
        )


def measure(
    dataset: str, samples: tuple[int, ...], folder: pathlib.Path, training: list[str]
) -> dict[str, Any]:
    """Trains and evaluates, unless the report exists; returns report.json.

    Raises:
        ValueError: the existing model was trained on other images.
        ChildProcessError: training or evaluation failed.
    """
    path = folder / "evaluation" / "report.json"
    if not path.exists():
        run(
            "cxr_gan.main",
            f"--config.dataset={dataset}",
            f"--config.samples_per_class={','.join(map(str, samples))}",
            f"--workdir={folder / 'run'}",
            *training,
        )
        run(
            "cxr_gan.evaluate",
            f"--model={folder / 'run'}",
            f"--dataset={dataset}",
            f"--out={path.parent}",
            "--utility",
        )
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    model = report["images"]
    provenance = utility.ModelProvenance(
        model["dataset"]["identity"], tuple(model["samples_per_class"]), model["seed"]
    )
    loaded = data.load(
        dataset, report["resolution"], split_seed=report["dataset"]["split_seed"]
    )
    utility.training_set(loaded, provenance, expected=samples)
    return report


def table(report: dict[str, Any]) -> str:
    """The comparisons of one report as Markdown."""
    lines = []
    for comparison in report["utility"]["comparisons"]:
        question = comparison["question"].capitalize()
        lines += [f"## {question}, {comparison['view']}", ""]
        head, *rows = text.variant_rows(comparison)
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(lines)


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Trains, evaluates and writes the table; returns the exit code."""
    out, training = pathlib.Path(values.out), list(argv[1:])
    try:
        names = data.load(values.dataset, 64, split_seed=0).class_names
        jobs = {
            int(size): samples_of(int(size), values.rare, names)
            for size in values.sizes
        }
        parts = []
        for size, samples in jobs.items():
            folder = out / f"few-{size}"
            report = measure(values.dataset, samples, folder, training)
            parts.append(f"# {size} of {values.rare}\n\n{table(report)}")
            head = HEAD.format(method=report["utility"]["method"])
            (out / "utility.md").write_text(head + "\n".join(parts), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {out / 'utility.md'}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """A function, so that tests can define the flags on their own FlagValues."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string(
        "dataset", None, "Real images, written as config.dataset.", **own
    )
    flags.DEFINE_string("out", None, "Folder for runs, reports and utility.md.", **own)
    flags.DEFINE_list(
        "sizes", ["100", "250"], "Numbers of images of the rare class.", **own
    )
    flags.DEFINE_string("rare", "NORMAL", "Class that gets few images.", **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """Entry point of the command line."""
    define_flags()
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
