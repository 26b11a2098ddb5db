"""Where the time of a training step goes, and how near each part is to the core's peak.

    python -m benchmarks.ops --out=docs/performance.md

One core, CPU time; Linux only. The page gets the tables; the figures, as JSON, and a
drawing of them are written beside it. An operation by itself writes out what a step
would hand on in cache, so shares are what it takes at most.
"""

import contextlib
import functools
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import tqdm
from absl import app, flags
from ml_collections import ConfigDict

from benchmarks import bars, operations, pages, timing
from benchmarks.rivals.published import CLASS_NAMES, measured, rules_of
from cxr_gan import gan, parallel
from cxr_gan.models import backend, convolution, winograd
from cxr_gan.state import TrainState, create_state

MARK = "operations"
RESOLUTIONS = (64, 128, 256)
Figures = dict[str, Any]


def shapes(config: ConfigDict) -> tuple[gan.Gan, TrainState]:
    """A game, and the shapes of its state."""
    game = gan.build(config, CLASS_NAMES)
    create = functools.partial(create_state, game)
    return game, jax.eval_shape(create, jax.random.key(0))


def whole_step(config: ConfigDict, rounds: int) -> float:
    """CPU seconds of a training step, a share of the R1 penalty included."""
    from benchmarks.rivals.ours import Ours  # which imports all of a run

    contestant = Ours(config, *rules_of(config).batch())
    turn = config.loss.r1_every
    return timing.timed(functools.partial(contestant.play, turn), rounds) / turn


def measure(config: ConfigDict, rounds: int) -> Figures:
    """All operations of a step of this batch, the step itself, and the peak."""
    game, shaped = shapes(config)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shaped)
    every = operations.of_a_step(game, state, config.batch_size)
    peak = timing.peak()
    rows = []
    for operation in tqdm.tqdm(every, "operations", disable=None):
        rows.append(
            {
                "kind": operation.kind,
                "name": operation.name,
                "per_step": operation.per_step,
                "flops": operation.flops,
                "seconds": timing.timed(operation.run, rounds),
                "others": {
                    name: timing.timed(run, rounds)
                    for name, run in operation.others.items()
                },
            }
        )
    return {
        "about": pages.circumstances(["jax"]),
        "batch": config.batch_size,
        "peak": peak.flops / timing.timed(peak.run, rounds),
        "step": whole_step(config, rounds),
        "operations": rows,
    }


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Convolutions are counted as the networks ask for them.

    XLA counts a loop's body once, so weights learn in one go within, and nothing is cut
    into tiles; nor do channels of zeros count.
    """
    with (
        mock.patch.object(winograd, "LEAST", {}),
        mock.patch.object(convolution, "SLENDER", 0),
        mock.patch.object(convolution, "_at_once", lambda x, _: len(x)),
    ):
        yield


def cost(config: ConfigDict) -> dict[str, float]:
    """What XLA counts in a compiled step, per image of the batch.

    Of a branch XLA counts the dearer side, so a step with R1 and one without are
    counted apart.
    """
    counted = {}
    for weight in (config.loss.r1_weight, 0.0):
        asked = config.copy_and_resolve_references()
        asked.loss.r1_weight = weight
        game, state = shapes(asked)
        with plainly():
            step = parallel.compile_step(game, state, config.batch_size)
        counted[bool(weight)] = step.cost_analysis()
    every = config.loss.r1_every
    return {
        key: (counted[True][key] + (every - 1) * counted[False][key])
        / (every * config.batch_size)
        for key in ("flops", "bytes accessed")
    }


def ms(seconds: float) -> str:
    """Three digits."""
    return f"{1e3 * seconds:.3g}"


def per_second(flops: float, seconds: float) -> str:
    """GFLOP/s."""
    return f"{flops / seconds / 1e9:.0f}"


def convolution_table(figures: Figures) -> str:
    """GFLOP/s of each convolution, ours beside the other ways to do it."""
    named: dict[str, list[dict[str, Any]]] = {}
    for row in figures["operations"]:
        if row["kind"] in operations.WAYS:
            named.setdefault(row["name"], []).append(row)
    first = next(iter(named.values()))
    head = [
        f"{row['kind'].removeprefix('convolutions, ')}: {way}"
        for row in first
        for way in ("ours", *row["others"])
    ]
    rows = [
        [
            name,
            *(
                per_second(row["flops"], seconds)
                for row in kinds
                for seconds in (row["seconds"], *row["others"].values())
            ),
        ]
        for name, kinds in named.items()
    ]
    return pages.table(["GFLOP/s", *head], rows)


def kinds(figures: Figures) -> dict[str, tuple[float, float]]:
    """Seconds a step of each kind of operation: at the peak, and as measured."""
    found: dict[str, tuple[float, float]] = {}
    for row in figures["operations"]:
        least, taken = found.get(row["kind"], (0.0, 0.0))
        often = row["per_step"]
        found[row["kind"]] = (
            least + often * row["flops"] / figures["peak"],
            taken + often * row["seconds"],
        )
    return found


def share_table(figures: Figures) -> str:
    """Milliseconds and share of a step of each kind of operation."""
    step, rows = figures["step"], []
    for kind, (least, taken) in kinds(figures).items():
        rows.append([kind, ms(taken), ms(least), f"{100 * taken / step:.0f} %"])
    head = ["", "ms a step", "ms at the peak", "share of a step"]
    return pages.table([*head], [*rows, ["a whole step", ms(step), "", "100 %"]])


def cost_table(costs: dict[str, dict[str, float]]) -> str:
    """{resolution: per image}."""
    rows = [
        [f"{size} px", f"{c['flops'] / 1e9:.2f}", f"{c['bytes accessed'] / 1e6:.0f}"]
        for size, c in costs.items()
    ]
    return pages.table(["", "GFLOP an image", "MB read and written an image"], rows)


def figure(figures: Figures) -> str:
    """SVG: every operation of a step, the one that leaves most on the table first."""
    rows = [
        (
            f"{row['name']}, {row['kind'].removeprefix('convolutions, ')}",
            1e3 * row["per_step"] * row["flops"] / figures["peak"],
            1e3 * row["per_step"] * row["seconds"],
        )
        for row in figures["operations"]
    ]
    rows.sort(key=lambda row: row[1] - row[2])
    title = f"A step of {figures['batch']} images: at the core's peak, and beyond"
    return bars.draw(rows, title, "ms")


def picture_of(page: pathlib.Path) -> pathlib.Path:
    """Where the drawing of a page is kept: PAGE.operations.svg beside it."""
    return page.with_name(f"{page.stem}.{MARK}.svg")


def text(figures: Figures, picture: str) -> str:
    """Markdown; `picture` is the name of the drawing beside the page."""
    about = ", ".join(f"{k} {v}" for k, v in figures["about"].items())
    return "\n".join(
        [
            f"Batch {figures['batch']}, one core; {about}. A product of two large "
            f"matrices reaches {figures['peak'] / 1e9:.0f} GFLOP/s.\n",
            share_table(figures),
            f"![Operations of a step]({picture})\n",
            convolution_table(figures),
            "Of a whole step, as XLA counts, R1 in one of eight steps included:\n",
            cost_table(figures["costs"]),
        ]
    )


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    if len(argv) > 1:
        raise app.UsageError(f"{argv[1]!r} is no flag; see --help")
    out = pathlib.Path(values.out)
    config = measured(values.batch)
    group = rules_of(config).group
    try:
        pages.earlier(out, MARK)
        if values.batch % group:
            raise ValueError(f"--batch={values.batch}: give a multiple of {group}")
    except (ValueError, FileNotFoundError) as error:
        raise app.UsageError(str(error)) from error
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    backend.ask_compiler()  # as a training does
    jax.config.update("jax_platforms", "cpu")
    figures = measure(config, values.rounds)
    figures["costs"] = {}
    for size in tqdm.tqdm(RESOLUTIONS, "counting", disable=None):
        config.resolution = size
        figures["costs"][str(size)] = cost(config)
    picture = picture_of(out)
    pages.keep(picture, figure(figures))
    pages.write(out, figures, MARK, functools.partial(text, picture=picture.name))
    print(f"wrote {out}, {pages.file_of(out, MARK)} and {picture}")
    return 0


def cli() -> None:
    """The command as typed in a terminal."""
    flags.DEFINE_string("out", None, "Page with the marks, Markdown.")
    flags.DEFINE_integer("batch", 16, "Images a step.", 8)
    flags.DEFINE_integer("rounds", 5, "Of which the median is taken.", 3)
    flags.mark_flag_as_required("out")
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
