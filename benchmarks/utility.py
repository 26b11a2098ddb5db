r"""Few normal images and all with pneumonia: do generated ones help?

    python -m benchmarks.utility --dataset=path/to/chest_xray --out=runs/utility

For each of --sizes a generator is trained on that many images of the class --rare and
on all others, in DIR/few-SIZE; classifiers then learn from exactly these images, with
and without generated ones: see `cxr_gan.evaluation.utility`. DIR/utility.md gets the
table. Every training takes as long as one of its configuration, every evaluation ten
minutes; what is there already is not done again.

Arguments after -- go to the training: -- --config.total_kimg=100.
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
from cxr_gan.page import text

HEAD = """# Generated images in use

Made by

    python -m benchmarks.utility --dataset=path/to/chest_xray --out=DIR

AUROC on val, with intervals of 95 %. {method}

"""


def samples_of(size: int, rare: str, class_names: tuple[str, ...]) -> tuple[int, ...]:
    """samples_per_class: `size` of the rare class, 0 (all) of others.

    Raises:
        ValueError: there is no such class, or size is less than 1.
    """
    if rare not in class_names:
        raise ValueError(f"--rare={rare}; classes are {', '.join(class_names)}")
    if size < 1:
        raise ValueError(f"--sizes={size}; give numbers of images, as 100,250")
    return tuple(size if name == rare else 0 for name in class_names)


def run(*words: str) -> None:
    """A module of cxr_gan, as typed in a terminal.

    Raises:
        ChildProcessError: it ended with another code than 0.
    """
    code = subprocess.run([sys.executable, "-m", *words], check=False).returncode
    if code:
        raise ChildProcessError(f"python -m {' '.join(words)} ended with {code}")


def measure(
    dataset: str, samples: tuple[int, ...], folder: pathlib.Path, training: list[str]
) -> dict[str, Any]:
    """Trains and evaluates, where that is not done; returns report.json.

    Raises:
        ValueError: the model there was trained on other images.
        ChildProcessError: training or evaluation failed.
    """
    told = folder / "evaluation" / "report.json"
    if not told.exists():
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
            f"--out={told.parent}",
            "--utility",
        )
    report: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    about = report["images"]
    card = utility.Card(
        about["dataset"]["identity"], tuple(about["samples_per_class"]), about["seed"]
    )
    found = data.load(
        dataset, report["resolution"], split_seed=report["dataset"]["split_seed"]
    )
    utility.training_set(found, card, expected=samples)
    return report


def table(report: dict[str, Any]) -> str:
    """The comparisons of one report, as Markdown."""
    lines = []
    for of in report["utility"]["comparisons"]:
        lines += [f"## {of['question'].capitalize()}, {of['view']}", ""]
        head, *rows = text.arms(of)
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(lines)


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
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
    """In a function, since a test has flags of its own."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("dataset", None, "Real images, as config.dataset.", **own)
    flags.DEFINE_string("out", None, "Folder of runs, reports and utility.md.", **own)
    flags.DEFINE_list("sizes", ["100", "250"], "Images of the rare class.", **own)
    flags.DEFINE_string("rare", "NORMAL", "The class that has few.", **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
