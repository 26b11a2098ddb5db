"""Compares what two checkouts compute, bit for bit.

    python -m benchmarks.equivalence --against=../before

For changes that must not change results. Both checkouts run on this machine, with the
packages of this environment, through their own command lines. The table has a row for
each of these parts, with the largest difference relative to the largest value:

    acgan       checkpoint and metrics after 5 steps of configs/acgan.py
    quick       checkpoint and metrics after 20 steps of configs/quick.py
    samples     16 images of pediatric64
    evaluation  every number of an evaluation of pediatric64 beside phantoms
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import flags

from benchmarks import command_line

STEPS = {"acgan": 5, "quick": 20}
STEP_KIMG = 16 / 1000  # the batch size of both configurations
NEVER = 1000.0  # kimg
SAMPLE = """
import sys, numpy as np, cxr_gan
params = cxr_gan.load("pediatric64")
np.save(sys.argv[1], cxr_gan.sample(params, [0, 1] * 8, 0))
"""
Arrays = dict[str, np.ndarray]


def run(checkout: pathlib.Path, *arguments: str) -> None:
    """Runs Python with the checkout's own package, outside of any checkout."""
    with tempfile.TemporaryDirectory() as elsewhere:
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )


def train(checkout: pathlib.Path, name: str, workdir: pathlib.Path) -> Arrays:
    """Trains STEPS[name] steps; every array of the checkpoint, and every metric."""
    keys = {
        "total_kimg": STEPS[name] * STEP_KIMG,
        "log_kimg": STEP_KIMG,
        **{"sample_kimg": NEVER, "eval_kimg": 0.0, "checkpoint_kimg": NEVER},
    }
    run(
        checkout,
        *("-m", "cxr_gan.main", f"--config={checkout / 'configs' / name}.py"),
        *(f"--config.{key}={value}" for key, value in keys.items()),
        f"--workdir={workdir}",
    )
    newest = workdir / "checkpoints" / str(STEPS[name])
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = {item: checkpointer.restore(newest / item) for item in ("state", "ema")}
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return arrays | numbers([json.loads(line) for line in lines])


def numbers(content: Any) -> Arrays:
    """Every number in a JSON document but times, by its path."""

    def walk(content: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
        if isinstance(content, dict | list):
            pairs = content.items() if isinstance(content, dict) else enumerate(content)
            for key, value in pairs:
                yield from walk(value, f"{path}/{key}")
        elif isinstance(content, int | float) and "/time/" not in path:
            yield path, np.array(float(content))

    return dict(walk(content, ""))


def compute(checkout: pathlib.Path, scratch: pathlib.Path) -> dict[str, Arrays]:
    """The arrays of each part of the table, by name."""
    parts = {name: train(checkout, name, scratch / name) for name in STEPS}
    run(checkout, "-c", SAMPLE, str(scratch / "samples.npy"))
    parts["samples"] = {"images": np.load(scratch / "samples.npy")}
    run(
        checkout,
        *("-m", "cxr_gan.evaluate", "--model=pediatric64", f"--out={scratch}/report"),
        *("--dataset=phantom:400", "--num=100"),
    )
    report = json.loads((scratch / "report/report.json").read_text(encoding="utf-8"))
    return parts | {"evaluation": numbers(report)}


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute value of `before`."""
    if before.shape != after.shape:
        return float("inf")
    scale = np.abs(before).max(initial=0)
    apart = np.abs(after.astype(float) - before).max(initial=0)
    return float(apart / scale) if scale else float(apart)


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Compares the checkout of --against with this one."""
    roots = pathlib.Path(values.against).absolute(), pathlib.Path(__file__).parents[1]
    computed = []
    for root in roots:
        with tempfile.TemporaryDirectory() as scratch:
            computed.append(compute(root, pathlib.Path(scratch)))
    results = {}
    for part, before in computed[0].items():
        after = computed[1][part]
        differences = {
            name: difference(before[name], after[name])
            for name in sorted(before.keys() & after.keys())
            if not np.array_equal(before[name], after[name])
        }
        results[part] = {
            "equal": len(before.keys() & after.keys()) - len(differences),
            "different": differences,
            "in one only": sorted(before.keys() ^ after.keys()),
        }
    rows = []
    for part, result in results.items():
        worst = max(result["different"].items(), key=lambda x: x[1], default=("", 0.0))
        counts = [result["equal"], *map(len, list(result.values())[1:])]
        rows.append([part, *map(str, counts), f"{worst[1]:.2g} {worst[0]}"])
    head = ["", "equal", "different", "in one only", "largest difference"]
    return results, command_line.table(head, rows)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("against", None, "Root of the other checkout.", **own)
    flags.mark_flag_as_required("against", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
