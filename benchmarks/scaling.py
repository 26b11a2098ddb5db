"""What a training takes as images, devices and data sets grow; and on paper, on TPUs.

    python -m benchmarks.scaling --out=docs/scaling.md --only=cost
    python -m benchmarks.scaling --out=docs/scaling.md

Each part takes minutes, and gets a table between its marks in the page, with its
figures as JSON beside it; parts that are not asked for stay as they are. `model`, the
last, measures nothing: it is computed from the others.
"""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import app, flags

from benchmarks import devices, extrapolation, ops, pages, precision, streams
from benchmarks.rivals.published import measured

RESOLUTIONS = (64, 128, 256, 512)
BATCH = 16  # of the counted step; as published
PER_CHIP = (8, 64)  # one group of each class, the least; and what fills a chip better
Figures = dict[str, Any]


def count() -> Figures:
    """What XLA counts in a step at each resolution, an image; and the weights."""
    # Fusion, which decides on bytes, comes before what this leaves out.
    jax.config.update("jax_disable_most_optimizations", True)
    config, found = measured(BATCH), {}
    for side in RESOLUTIONS:
        config.resolution = side
        _, state = ops.shapes(config)
        sizes = {
            name: sum(leaf.size for leaf in jax.tree.leaves(player.params))
            for name, player in (("G", state.generator), ("D", state.discriminator))
        }
        found[str(side)] = {**ops.cost(config), "weights": sizes}
    return {"about": pages.circumstances(["jax"]), "batch": BATCH, "steps": found}


def count_text(figures: Figures) -> str:
    """Markdown."""
    rows = [
        [
            f"{side} px",
            f"{of['flops'] / 1e9:.2f}",
            f"{of['bytes accessed'] / 1e6:.0f}",
            f"{of['flops'] / of['bytes accessed']:.1f}",
            *(f"{of['weights'][player] / 1e6:.2f}" for player in "GD"),
        ]
        for side, of in figures["steps"].items()
    ]
    head = ["", "GFLOP an image", "MB moved an image", "FLOP a byte"]
    return (
        f"Batch {figures['batch']}, JAX {figures['about']['jax']}.\n\n"
        + pages.table([*head, "weights of G, millions", "of D"], rows)
    )


def works(page: pathlib.Path) -> dict[str, extrapolation.Work]:
    """By resolution, from the figures of the other parts.

    Raises:
        ValueError: one of them was not measured yet.
    """
    found = {part: pages.earlier(page, part) for part in ("cost", "devices", "data")}
    lacking = [part for part, figures in found.items() if not figures]
    if lacking:
        raise ValueError(f"model needs --only={','.join(lacking)} first")
    largest = list(found["data"]["sets"].values())[-1]
    save = found["devices"]["devices"]["1"]["save"]["returns"]["wall"]
    return {
        side: extrapolation.Work(
            flops=of["flops"],
            moved=of["bytes accessed"],
            gradients=4.0 * sum(of["weights"].values()),
            fed=streams.BATCH
            / largest["batch"]["cpu"]
            * (streams.SIDE / int(side)) ** 2,
            save=save,
        )
        for side, of in found["cost"]["steps"].items()
    }


def model_text(figures: Figures) -> str:
    """Markdown."""
    named = {
        side: extrapolation.Work(**work) for side, work in figures["works"].items()
    }
    stated = extrapolation.assumptions(extrapolation.V5E, extrapolation.Assumed())
    return stated + "\n" + extrapolation.table(named, PER_CHIP, figures["save_kimg"])


def parts(
    page: pathlib.Path, runs: pathlib.Path, seeds: int
) -> dict[str, tuple[Callable[[], Figures], Callable[[Figures], str]]]:
    """Mark in the page -> what measures, and what words it."""

    def model() -> Figures:
        told = {side: vars(work) for side, work in works(page).items()}
        return {"works": told, "save_kimg": measured(BATCH).save_kimg}

    return {
        "cost": (count, count_text),
        "devices": (devices.measure, devices.text),
        "data": (streams.measure, streams.text),
        "precision": (lambda: precision.measure(runs, seeds), precision.text),
        "model": (model, model_text),
    }


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    if len(argv) > 1:
        raise app.UsageError(f"{argv[1]!r} is no flag; see --help")
    page = pathlib.Path(values.out)
    known = parts(page, pathlib.Path(values.runs), values.seeds)
    asked = values.only or list(known)
    wrong = [part for part in asked if part not in known]
    try:
        if wrong:
            raise ValueError(f"--only={','.join(wrong)}; parts are {', '.join(known)}")
        for part in known:
            pages.earlier(page, part)
    except (ValueError, FileNotFoundError) as error:
        raise app.UsageError(str(error)) from error
    jax.config.update("jax_platforms", "cpu")
    for part in asked:
        measure, text = known[part]
        try:
            figures = measure()
        except (ValueError, ChildProcessError) as error:
            print(f"error: {part}: {error}", file=sys.stderr)
            return 1
        pages.write(page, figures, part, text)
        print(f"wrote {part} to {page} and {pages.file_of(page, part)}")
    return 0


def define(values: flags.FlagValues = flags.FLAGS) -> None:
    """The flags of the command."""
    kept = {"flag_values": values}
    flags.DEFINE_string("out", None, "Page with the marks, Markdown.", **kept)
    flags.DEFINE_list("only", None, "Parts to measure. Default: all.", **kept)
    flags.DEFINE_string(
        "runs", "runs/precision", "Folder of the trainings of `precision`.", **kept
    )
    flags.DEFINE_integer(
        "seeds", precision.SEEDS, "Of `precision`, at least.", 1, **kept
    )
    flags.mark_flags_as_required(["out"], **kept)


def cli() -> None:
    """The command as typed in a terminal."""
    define()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
