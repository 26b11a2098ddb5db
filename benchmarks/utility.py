r"""Whether generated images help a classifier when one class has few images.

    python -m benchmarks.utility --config.dataset=path/to/chest_xray \
        --workdir=runs/utility --out=utility.json

For each of --sizes, a generator is trained on that many images of the class --rare and
on all images of the other classes, in WORKDIR/SIZE. --config and its keys are those of
`cxr_gan.main`. Classifiers are then trained on exactly these images, with and without
generated ones (see `cxr_gan.evaluation.utility`); the table shows their AUROC on val
with 95 % intervals. An evaluation takes ten minutes. Existing results are not computed
again, and an unfinished training continues.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from benchmarks import command_line
from cxr_gan import data
from cxr_gan.evaluation.report import text
from cxr_gan.runtime import cpu, process
from cxr_gan.training import experiment, loop


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


def train_and_evaluate(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
    """Trains and evaluates, unless the report exists; returns report.json.

    Raises:
        ValueError: the folder holds a run of another configuration.
        ChildProcessError: the evaluation failed.
    """
    run = experiment.open_run(config, folder / "run")
    path = folder / "evaluation" / "report.json"
    if not path.exists():
        loop.train(run)
        evaluate(folder / "run", config.dataset, path.parent)
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def evaluate(model: pathlib.Path, dataset: str, out: pathlib.Path) -> None:
    """Runs `cxr_gan.evaluate --utility`. Raises ChildProcessError if it fails."""
    arguments = (f"--model={model}", f"--dataset={dataset}", f"--out={out}")
    command = (sys.executable, "-m", "cxr_gan.evaluate", *arguments, "--utility")
    if code := subprocess.run(command, check=False).returncode:
        raise ChildProcessError(f"{' '.join(command)} ended with exit code {code}")


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Trains and evaluates a generator for each size."""
    base, workdir, parts, results = values.config, pathlib.Path(values.workdir), [], {}
    loaded = data.load(base.dataset, base.resolution, split_seed=base.split_seed)
    jobs = {
        int(size): samples_of(int(size), values.rare, loaded.class_names)
        for size in values.sizes
    }
    cpu.set_xla_cpu_flags()  # as cxr_gan.main does
    process.enable_compilation_cache()
    for size, samples in jobs.items():
        config = base.copy_and_resolve_references()
        config.samples_per_class = samples
        utility = train_and_evaluate(config, workdir / str(size))["utility"]
        results[size] = utility
        for comparison in utility["comparisons"]:
            head, *rows = text.variant_rows(comparison)
            title = f"{size} of {values.rare}: {comparison['question']}"
            parts.append(f"## {title}, {comparison['view']}\n")
            parts.append(command_line.table(head, rows))
    return {"rare": values.rare, "sizes": results}, "\n".join(parts)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    command_line.define_config(values)
    flags.DEFINE_string("workdir", "runs/utility", "Folder of runs and reports.", **own)
    flags.DEFINE_list(
        "sizes", ["100", "250"], "Numbers of images of the rare class.", **own
    )
    flags.DEFINE_string("rare", "NORMAL", "Class that gets few images.", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
