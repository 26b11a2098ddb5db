"""Cost of training as resolution, devices and data sets grow.

    python -m benchmarks.scaling --out=scaling.json
    python -m benchmarks.scaling --only=cost

`cost` counts the operations of a step at each resolution, `devices` splits a batch over
virtual devices, `data` reads sets of up to a million images. Each takes minutes.
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import command_line, devices, streams
from benchmarks.baselines.published import benchmark_config, build_shapes
from benchmarks.command_line import Results
from cxr_gan.models import conv
from cxr_gan.training import data_parallel

RESOLUTIONS = (64, 128, 256, 512)
BATCH = 16  # of the counted step, as in configs/acgan.py


def step_cost(config: ConfigDict) -> dict[str, float]:
    """XLA's count of FLOPs and bytes of a compiled step, per image of the batch.

    The CPU kernels are off, because XLA counts the body of a loop once. XLA counts the
    more expensive side of a branch, so a step with R1 and a step without are counted
    separately.
    """
    counted = {}
    for weight in (config.loss.r1_weight, 0.0):
        changed = config.copy_and_resolve_references()
        changed.loss.r1_weight = weight
        gan, state = build_shapes(changed)
        with mock.patch.object(conv, "on_cpu", lambda: False):
            step = data_parallel.compile_step(gan, state, config.batch_size)
        counted[bool(weight)] = step.cost_analysis()
    interval = config.loss.r1_interval
    return {
        key: (counted[True][key] + (interval - 1) * counted[False][key])
        / (interval * config.batch_size)
        for key in ("flops", "bytes accessed")
    }


def count() -> Results:
    """Cost of a step per image at each resolution; numbers of weights."""
    # The passes this disables come after fusion, which determines the bytes.
    jax.config.update("jax_disable_most_optimizations", True)
    config, steps = benchmark_config(BATCH), {}
    for side in RESOLUTIONS:
        config.resolution = side
        _, state = build_shapes(config)
        weights = {
            name: sum(leaf.size for leaf in jax.tree.leaves(network.params))
            for name, network in (("G", state.generator), ("D", state.discriminator))
        }
        steps[str(side)] = {**step_cost(config), "weights": weights}
    return {"batch": BATCH, "steps": steps}


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
    head += ["weights of G, millions", "weights of D, millions"]
    return f"Batch {results['batch']}.\n\n" + command_line.table(head, rows)


# Part -> the functions that measure it and that make its text.
PARTS: dict[str, tuple[Callable[[], Results], Callable[[Results], str]]] = {
    "cost": (count, count_text),
    "devices": (devices.measure, devices.text),
    "data": (streams.measure, streams.text),
}


def measure(values: flags.FlagValues) -> tuple[Results, str]:
    """Measures the parts of --only."""
    wrong = [part for part in values.only if part not in PARTS]
    if wrong:
        raise ValueError(
            f"--only={','.join(wrong)}: no such part; parts are {', '.join(PARTS)}"
        )
    jax.config.update("jax_platforms", "cpu")
    results: Results = {}
    texts = []
    for part in values.only:
        measure_part, text = PARTS[part]
        results[part] = measure_part()
        texts.append(f"### {part}\n\n{text(results[part])}")
    return results, "\n".join(texts)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_list("only", [*PARTS], "Parts, separated by commas.", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
