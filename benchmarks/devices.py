"""Duration of a step and of a save, with one batch split over 1 to 8 virtual devices.

The step is that of configs/quick.py, whose small networks make the cost of splitting
the batch and of averaging gradients visible. The checkpoint is that of
configs/acgan.py.

Run by benchmarks.scaling, as python -m benchmarks.devices 8.
"""

import json
import os
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from benchmarks import command_line, fresh
from benchmarks.baselines.published import (
    CLASS_NAMES,
    benchmark_config,
    build_shapes,
    settings_of,
)
from cxr_gan.runtime import config_files

DEVICES = (1, 2, 4, 8)
BATCH = 64  # eight groups, so that eight devices get one each
REPEATS = 2


def measure() -> dict[str, Any]:
    """Results for each number of devices, each in its own process."""
    results = {
        str(n): fresh.measure("benchmarks.devices", str(n), JAX_NUM_CPU_DEVICES=str(n))
        for n in DEVICES
    }
    return {
        "own cores": len(os.sched_getaffinity(0)),
        "batch": BATCH,
        "devices": results,
    }


def measure_here() -> dict[str, Any]:
    """Duration and memory of a step and of a save, in this process."""
    from benchmarks.baselines.ours import Ours

    config = config_files.read(config_files.shipped("quick.py"))
    config.batch_size = BATCH
    ours = Ours(config, *settings_of(config).batch())
    interval = config.loss.r1_interval
    ours.train(interval)
    steps = []
    for _ in range(REPEATS):
        clock = fresh.Clock()
        ours.train(interval)
        steps.append({key: seconds / interval for key, seconds in clock.read().items()})
    memory = fresh.peak_memory()
    _, shapes = build_shapes(benchmark_config(BATCH))
    rng = np.random.default_rng(0)  # noise, because zeros would be compressed
    state = jax.tree.map(
        lambda x: rng.standard_normal(x.shape).astype(x.dtype), shapes
    ).replace(step=np.int32(1))
    return {"steps": steps, "memory": memory, "save": save(state)}


def save(state: Any) -> dict[str, Any]:
    """Seconds until a save returns and from then until it is on disk; its bytes."""
    from cxr_gan.storage.checkpoint import Checkpoints

    seconds = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(folder) as checkpoints,
    ):
        clock = fresh.Clock()
        checkpoints.save(1, state.to_items(), {"class_names": list(CLASS_NAMES)})
        seconds["returns"] = clock.read()
        checkpoints.wait()
        seconds["on disk"] = clock.read()
    arrays = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state))
    return {**seconds, "bytes": arrays}


def text(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for n, result in results["devices"].items():
        step = min(result["steps"], key=lambda seconds: seconds["cpu"])
        save = result["save"]
        on_disk = sum(save[part]["wall"] for part in ("returns", "on disk"))
        rows.append(
            [
                n,
                f"{1e3 * step['cpu']:.0f}",
                f"{1e3 * step['wall']:.0f}",
                f"{result['memory'] / 1e6:.0f}",
                f"{save['returns']['wall']:.2f}",
                f"{on_disk:.2f}",
            ]
        )
    size = next(iter(results["devices"].values()))["save"]["bytes"]
    return (
        f"Batch {results['batch']} at 32 px; cores used: {results['own cores']}. "
        f"A checkpoint holds {size / 1e6:.1f} MB.\n\n"
    ) + command_line.table(
        [
            *("virtual devices", "CPU ms per step", "wall ms per step"),
            *("peak memory, MB", "save returns after, s", "on disk after, s"),
        ],
        rows,
    )


if __name__ == "__main__":
    if jax.local_device_count() != int(sys.argv[1]):
        raise ValueError(f"{jax.local_device_count()} devices, not {sys.argv[1]}")
    print(json.dumps(measure_here()))
