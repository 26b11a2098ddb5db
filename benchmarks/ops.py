"""CPU time of each operation of a training step, compared with the core's peak.

    python -m benchmarks.ops --out=performance.md

Runs on one core; Linux only. The tables are written into the page, the results as JSON
and a drawing of them into its folder. A single operation writes its result to memory,
which a step would keep in cache, so the times are upper bounds.
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
from benchmarks.baselines.published import CLASS_NAMES, benchmark_config, settings_of
from cxr_gan import config as configs
from cxr_gan.models.cpu import convolution, winograd
from cxr_gan.runtime import cpu
from cxr_gan.training import data_parallel
from cxr_gan.training.gan import GanDefinition, build_gan
from cxr_gan.training.train_state import TrainState, create_train_state

MARK = "operations"
RESOLUTIONS = (64, 128, 256)
Results = dict[str, Any]


def shapes(config: ConfigDict) -> tuple[GanDefinition, TrainState]:
    """The GAN of a configuration, and the shapes of its training state."""
    gan = build_gan(configs.freeze(config), CLASS_NAMES)
    create = functools.partial(create_train_state, gan)
    return gan, jax.eval_shape(create, jax.random.key(0))


def step_seconds(config: ConfigDict, rounds: int) -> float:
    """CPU seconds of a training step, averaged over an interval of R1 penalties."""
    from benchmarks.baselines.ours import Ours  # slow import

    ours = Ours(config, *settings_of(config).batch())
    steps = config.loss.r1_interval
    return timing.cpu_seconds(functools.partial(ours.train, steps), rounds) / steps


def measure(config: ConfigDict, rounds: int) -> Results:
    """Times all operations of a step, the step itself, and the peak."""
    gan, state_shapes = shapes(config)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state_shapes)
    step_operations = operations.step_operations(gan, state, config.batch_size)
    peak = timing.peak()
    rows = []
    for operation in tqdm.tqdm(step_operations, "operations", disable=None):
        rows.append(
            {
                "kind": operation.kind,
                "name": operation.name,
                "per_step": operation.per_step,
                "flops": operation.flops,
                "seconds": timing.cpu_seconds(operation.run, rounds),
                "others": {
                    name: timing.cpu_seconds(run, rounds)
                    for name, run in operation.others.items()
                },
            }
        )
    return {
        "about": pages.circumstances(["jax"]),
        "batch": config.batch_size,
        "peak": peak.flops / timing.cpu_seconds(peak.run, rounds),
        "step": step_seconds(config, rounds),
        "operations": rows,
    }


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Replaces the CPU kernels, so XLA counts the operations of plain convolutions.

    XLA counts the body of a loop once; within this context, weight gradients are
    computed without a loop, Winograd's algorithm is off, and channels are not padded.
    """
    with (
        mock.patch.object(winograd, "THRESHOLDS", {}),
        mock.patch.object(convolution, "FEW_CHANNELS", 0),
        mock.patch.object(
            convolution, "_weight_gradient_chunk_size", lambda x, _: len(x)
        ),
    ):
        yield


def cost(config: ConfigDict) -> dict[str, float]:
    """XLA's count of FLOPs and bytes of a compiled step, per image of the batch.

    XLA counts the more expensive side of a branch, so a step with R1 and a step without
    are counted separately.
    """
    counted = {}
    for weight in (config.loss.r1_weight, 0.0):
        changed = config.copy_and_resolve_references()
        changed.loss.r1_weight = weight
        gan, state = shapes(changed)
        with plain_convolutions():
            step = data_parallel.compile_step(gan, state, config.batch_size)
        counted[bool(weight)] = step.cost_analysis()
    interval = config.loss.r1_interval
    return {
        key: (counted[True][key] + (interval - 1) * counted[False][key])
        / (interval * config.batch_size)
        for key in ("flops", "bytes accessed")
    }


def ms(seconds: float) -> str:
    """Milliseconds with three significant digits."""
    return f"{1e3 * seconds:.3g}"


def per_second(flops: float, seconds: float) -> str:
    """A speed in GFLOP/s."""
    return f"{flops / seconds / 1e9:.0f}"


def convolution_table(results: Results) -> str:
    """GFLOP/s of each convolution, in the library and in other implementations."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in results["operations"]:
        if row["kind"] in operations.CONVOLUTION_PASSES:
            by_name.setdefault(row["name"], []).append(row)
    first = next(iter(by_name.values()))
    head = [
        f"{row['kind'].removeprefix('convolutions, ')}: {implementation}"
        for row in first
        for implementation in ("ours", *row["others"])
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
        for name, kinds in by_name.items()
    ]
    return pages.table(["GFLOP/s", *head], rows)


def kinds(results: Results) -> dict[str, tuple[float, float]]:
    """Seconds per step of each kind of operation: at the peak, and measured."""
    sums: dict[str, tuple[float, float]] = {}
    for row in results["operations"]:
        at_peak, measured_seconds = sums.get(row["kind"], (0.0, 0.0))
        calls = row["per_step"]
        sums[row["kind"]] = (
            at_peak + calls * row["flops"] / results["peak"],
            measured_seconds + calls * row["seconds"],
        )
    return sums


def share_table(results: Results) -> str:
    """Milliseconds per step, and fraction of the step, of each kind of operation."""
    step, rows = results["step"], []
    for kind, (at_peak, seconds) in kinds(results).items():
        rows.append([kind, ms(seconds), ms(at_peak), f"{100 * seconds / step:.0f} %"])
    head = ["", "ms a step", "ms at the peak", "share of a step"]
    return pages.table([*head], [*rows, ["a whole step", ms(step), "", "100 %"]])


def cost_table(costs: dict[str, dict[str, float]]) -> str:
    """Table of {resolution: cost per image}."""
    rows = [
        [f"{size} px", f"{c['flops'] / 1e9:.2f}", f"{c['bytes accessed'] / 1e6:.0f}"]
        for size, c in costs.items()
    ]
    return pages.table(["", "GFLOP an image", "MB read and written an image"], rows)


def figure(results: Results) -> str:
    """SVG: every operation of a step, that with the most time above the peak first."""
    rows = [
        (
            f"{row['name']}, {row['kind'].removeprefix('convolutions, ')}",
            1e3 * row["per_step"] * row["flops"] / results["peak"],
            1e3 * row["per_step"] * row["seconds"],
        )
        for row in results["operations"]
    ]
    rows.sort(key=lambda row: row[1] - row[2])
    title = f"A step of {results['batch']} images: at the core's peak, and beyond"
    return bars.draw(rows, title, "ms")


def picture_of(page: pathlib.Path) -> pathlib.Path:
    """The file of a page's drawing: PAGE.operations.svg in the same folder."""
    return page.with_name(f"{page.stem}.{MARK}.svg")


def text(results: Results, picture: str) -> str:
    """The results as Markdown; `picture` is the file name of the drawing."""
    about = ", ".join(f"{k} {v}" for k, v in results["about"].items())
    return "\n".join(
        [
            f"Batch {results['batch']}, one core; {about}. A product of two large "
            f"matrices reaches {results['peak'] / 1e9:.0f} GFLOP/s.\n",
            share_table(results),
            f"![Operations of a step]({picture})\n",
            convolution_table(results),
            "Of a whole step, as XLA counts, R1 in one of eight steps included:\n",
            cost_table(results["costs"]),
        ]
    )


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Measures and writes the page; returns the exit code."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; see --help")
    out = pathlib.Path(values.out)
    config = benchmark_config(values.batch)
    group_size = settings_of(config).group_size
    try:
        pages.earlier(out, MARK)
        if values.batch % group_size:
            raise ValueError(f"--batch={values.batch}: give a multiple of {group_size}")
    except (ValueError, FileNotFoundError) as error:
        raise app.UsageError(str(error)) from error
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    cpu.set_xla_cpu_flags()  # as cxr_gan.main does
    jax.config.update("jax_platforms", "cpu")
    results = measure(config, values.rounds)
    results["costs"] = {}
    for size in tqdm.tqdm(RESOLUTIONS, "counting", disable=None):
        config.resolution = size
        results["costs"][str(size)] = cost(config)
    picture = picture_of(out)
    pages.keep(picture, figure(results))
    pages.write(out, results, MARK, functools.partial(text, picture=picture.name))
    print(f"wrote {out}, {pages.file_of(out, MARK)} and {picture}")
    return 0


def cli() -> None:
    """Entry point of the command line."""
    flags.DEFINE_string("out", None, "Markdown page with the marks.")
    flags.DEFINE_integer("batch", 16, "Images per step.", 8)
    flags.DEFINE_integer(
        "rounds", 5, "Repetitions of each timing; the median is used.", 3
    )
    flags.mark_flag_as_required("out")
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
