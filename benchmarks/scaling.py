"""Cost of training as images, devices and data sets grow; estimates for TPUs.

    python -m benchmarks.scaling --out=scaling.md --only=cost
    python -m benchmarks.scaling --out=scaling.md

Each part takes minutes. Its table is written between its marks in the page, its results
as JSON in the folder of the page; parts not in --only are unchanged. `model`, the last
part, measures nothing: it is computed from the others.
"""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import app, flags

from benchmarks import devices, extrapolation, ops, pages, precision, streams
from benchmarks.baselines.published import benchmark_config

RESOLUTIONS = (64, 128, 256, 512)
BATCH = 16  # of the counted step, as in configs/acgan.py
PER_CHIP = (8, 64)  # the smallest batch, one group; and a larger one
Results = dict[str, Any]


def count() -> Results:
    """XLA's cost of a step per image at each resolution; numbers of weights."""
    # The passes this disables come after fusion, which determines the bytes.
    jax.config.update("jax_disable_most_optimizations", True)
    config, steps = benchmark_config(BATCH), {}
    for side in RESOLUTIONS:
        config.resolution = side
        _, state = ops.shapes(config)
        sizes = {
            name: sum(leaf.size for leaf in jax.tree.leaves(network.params))
            for name, network in (("G", state.generator), ("D", state.discriminator))
        }
        steps[str(side)] = {**ops.cost(config), "weights": sizes}
    return {"about": pages.circumstances(["jax"]), "batch": BATCH, "steps": steps}


def count_text(results: Results) -> str:
    """The results as Markdown."""
    rows = [
        [
            f"{side} px",
            f"{step['flops'] / 1e9:.2f}",
            f"{step['bytes accessed'] / 1e6:.0f}",
            f"{step['flops'] / step['bytes accessed']:.1f}",
            *(f"{step['weights'][network] / 1e6:.2f}" for network in "GD"),
        ]
        for side, step in results["steps"].items()
    ]
    head = ["", "GFLOP per image", "MB moved per image", "FLOP per byte"]
    return (
        f"Batch {results['batch']}, JAX {results['about']['jax']}.\n\n"
        + pages.table([*head, "weights of G, millions", "weights of D, millions"], rows)
    )


def works(page: pathlib.Path) -> dict[str, extrapolation.Work]:
    """The cost of a step by resolution, from the results of the other parts.

    Raises:
        ValueError: one of them was not measured yet.
    """
    measurements = {
        part: pages.earlier(page, part) for part in ("cost", "devices", "data")
    }
    missing = [part for part, result in measurements.items() if not result]
    if missing:
        raise ValueError(f"model needs --only={','.join(missing)} first")
    largest = list(measurements["data"]["sets"].values())[-1]
    save = measurements["devices"]["devices"]["1"]["save"]["returns"]["wall"]
    return {
        side: extrapolation.Work(
            flops=step["flops"],
            moved=step["bytes accessed"],
            gradients=4.0 * sum(step["weights"].values()),
            fed=streams.BATCH
            / largest["batch"]["cpu"]
            * (streams.SIDE / int(side)) ** 2,
            save=save,
        )
        for side, step in measurements["cost"]["steps"].items()
    }


def model_text(results: Results) -> str:
    """The results as Markdown."""
    work_by_side = {
        side: extrapolation.Work(**work) for side, work in results["works"].items()
    }
    assumptions = extrapolation.assumptions(extrapolation.V5E, extrapolation.Assumed())
    return (
        assumptions
        + "\n"
        + extrapolation.table(work_by_side, PER_CHIP, results["checkpoint_kimg"])
    )


def parts(
    page: pathlib.Path, runs: pathlib.Path, seeds: int
) -> dict[str, tuple[Callable[[], Results], Callable[[Results], str]]]:
    """Mark in the page -> the functions that measure, and that make the text."""

    def model() -> Results:
        content = {side: vars(work) for side, work in works(page).items()}
        return {
            "works": content,
            "checkpoint_kimg": benchmark_config(BATCH).checkpoint_kimg,
        }

    return {
        "cost": (count, count_text),
        "devices": (devices.measure, devices.text),
        "data": (streams.measure, streams.text),
        "precision": (lambda: precision.measure(runs, seeds), precision.text),
        "model": (model, model_text),
    }


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Measures the parts of --only; returns the exit code."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; see --help")
    page = pathlib.Path(values.out)
    known = parts(page, pathlib.Path(values.runs), values.seeds)
    selected = values.only or list(known)
    wrong = [part for part in selected if part not in known]
    try:
        if wrong:
            raise ValueError(
                f"--only={','.join(wrong)}: no such part; parts are {', '.join(known)}"
            )
        for part in known:
            pages.earlier(page, part)
    except (ValueError, FileNotFoundError) as error:
        raise app.UsageError(str(error)) from error
    jax.config.update("jax_platforms", "cpu")
    for part in selected:
        measure, text = known[part]
        try:
            results = measure()
        except (ValueError, ChildProcessError) as error:
            print(f"error: {part}: {error}", file=sys.stderr)
            return 1
        pages.write(page, results, part, text)
        print(f"wrote {part} to {page} and {pages.file_of(page, part)}")
    return 0


def define(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags."""
    own = {"flag_values": values}
    flags.DEFINE_string("out", None, "Markdown page with the marks.", **own)
    flags.DEFINE_list("only", None, "Parts to measure. Default: all.", **own)
    flags.DEFINE_string(
        "runs",
        "runs/precision",
        "Folder of the trainings of the part `precision`.",
        **own,
    )
    flags.DEFINE_integer(
        "seeds",
        precision.SEEDS,
        "Least number of seeds of the part `precision`.",
        1,
        **own,
    )
    flags.mark_flags_as_required(["out"], **own)


def cli() -> None:
    """Entry point of the command line."""
    define()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
