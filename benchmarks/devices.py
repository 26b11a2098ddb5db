"""One batch dealt out over 1 to 8 virtual devices: what a step and a save take.

The step is that of configs/quick.py, where there is little to do beside dealing out and
exchanging; the checkpoint that of configs/acgan.py.

Run by benchmarks.scaling, as python -m benchmarks.devices 8.
"""

import json
import os
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from benchmarks import fresh, ops, pages
from benchmarks.rivals.published import CLASS_NAMES, measured, rules_of
from cxr_gan import config as configs

DEVICES = (1, 2, 4, 8)
BATCH = 64  # eight groups: one for each of eight devices
TURNS = 2


def measure() -> dict[str, Any]:
    """Of each number of devices, in a process of its own."""
    found = {
        str(n): fresh.measure("benchmarks.devices", str(n), JAX_NUM_CPU_DEVICES=str(n))
        for n in DEVICES
    }
    return {
        "about": pages.circumstances(["jax", "orbax-checkpoint"]),
        "own cores": len(os.sched_getaffinity(0)),
        "batch": BATCH,
        "devices": found,
    }


def in_here() -> dict[str, Any]:
    """What a step takes in this process, and its checkpoint."""
    from benchmarks.rivals.ours import Ours

    config = configs.read(configs.shipped("quick.py"))
    config.batch_size = BATCH
    ours = Ours(config, *rules_of(config).batch())
    every = config.loss.r1_every
    ours.play(every)
    steps = []
    for _ in range(TURNS):
        clock = fresh.Clock()
        ours.play(every)
        steps.append({key: taken / every for key, taken in clock.read().items()})
    memory = fresh.peak_memory()
    _, shapes = ops.shapes(measured(BATCH))
    draw = np.random.default_rng(0)  # noise, for zeros would be compressed
    state = jax.tree.map(
        lambda x: draw.standard_normal(x.shape).astype(x.dtype), shapes
    ).replace(step=np.int32(1))
    return {"steps": steps, "memory": memory, "save": save(state)}


def save(state: Any) -> dict[str, Any]:
    """Seconds until a save returns, and until it is on disk; its bytes."""
    from cxr_gan.checkpoint import Checkpoints

    taken = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(folder) as checkpoints,
    ):
        clock = fresh.Clock()
        checkpoints.save(state, {"class_names": list(CLASS_NAMES)})
        taken["returns"] = clock.read()
        checkpoints.wait()
        taken["on disk"] = clock.read()
    arrays = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state))
    return {**taken, "bytes": arrays}


def text(figures: dict[str, Any]) -> str:
    """Markdown."""
    rows = []
    for n, found in figures["devices"].items():
        step = min(found["steps"], key=lambda taken: taken["cpu"])
        save = found["save"]
        written = sum(save[part]["wall"] for part in ("returns", "on disk"))
        rows.append(
            [
                n,
                f"{1e3 * step['cpu']:.0f}",
                f"{1e3 * step['wall']:.0f}",
                f"{found['memory'] / 1e6:.0f}",
                f"{save['returns']['wall']:.2f}",
                f"{written:.2f}",
            ]
        )
    about = ", ".join(f"{k} {v}" for k, v in figures["about"].items())
    size = next(iter(figures["devices"].values()))["save"]["bytes"]
    return (
        f"Batch {figures['batch']} at 32 px, {figures['own cores']} of the cores; "
        f"{about}. A checkpoint holds {size / 1e6:.1f} MB.\n\n"
    ) + pages.table(
        [
            *("virtual devices", "CPU ms a step", "wall ms a step"),
            *("peak memory, MB", "a save returns, s", "is on disk, s"),
        ],
        rows,
    )


if __name__ == "__main__":
    if jax.local_device_count() != int(sys.argv[1]):
        raise ValueError(f"{jax.local_device_count()} devices, not {sys.argv[1]}")
    print(json.dumps(in_here()))
