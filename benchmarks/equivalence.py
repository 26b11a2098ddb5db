"""Records what a checkout computes, and compares it with what another one computes.

    python -m benchmarks.equivalence --checkout=../before --out=before
    python -m benchmarks.equivalence --checkout=. --out=after --reference=before

For changes that must not change results. Both checkouts run on the same machine, with
the packages of this environment, through their own command lines. OUT gets one .npz a
part:

    acgan.npz       parameters after 5 steps of configs/acgan.py
    quick.npz       parameters after 20 steps of configs/quick.py
    first_step.npz  squared gradients of step 1 of configs/acgan.py, from the second
                    moments of both optimizers
    losses.npz      all metrics of these steps
    samples.npz     16 images of pediatric64
    evaluation.npz  every number of an evaluation of pediatric64 beside phantoms

With --reference it prints, for each part, whether all arrays are equal bit for bit, and
the largest relative difference where they are not. Arrays are matched by name; a
reference of version 0.1 is translated to the names of 0.2.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

# Renamed in 0.2: configuration key -> the key of 0.1.
RENAMED_KEYS = {
    "log_kimg": "report_kimg",
    "sample_kimg": "draw_kimg",
    "eval_kimg": "evaluate_kimg",
    "checkpoint_kimg": "save_kimg",
}
# Names of 0.1 in losses.npz and evaluation.npz -> names of 0.2.
RENAMED_METRICS = {
    "/d/lead": "/d/score_gap",
    "/d/penalty": "/d/r1",
    "/g/matching": "/g/feature_matching",
    "/g/repetition": "/g/diversity",
    "/balance/d_speed": "/schedule/d_update_scale",
    "/balance/g_speed": "/schedule/g_update_scale",
    "/balance/decay": "/schedule/lr_scale",
    "/figures/": "/metrics/",
    "/floor/": "/reference/",
}
# The label ramp is gone, and the checkerboard gain is logged as a factor.
NOT_COMPARED = (
    "/balance/condition",
    "/balance/sharpness",
    "/schedule/checkerboard_gain",
)
STEPS = {"acgan": 5, "quick": 20, "first_step": 1}
BATCH_SIZE = 16
SAMPLE = """
import sys, numpy as np, cxr_gan
params = cxr_gan.load("pediatric64")
images = cxr_gan.sample(params, [0, 1] * 8, 0)
np.savez(sys.argv[1], images=np.asarray(images))
"""

_CHECKOUT = flags.DEFINE_string("checkout", ".", "Checkout to run.")
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_REFERENCE = flags.DEFINE_string("reference", None, "--out of an earlier call.")


def run(checkout: pathlib.Path, *arguments: str) -> None:
    """Runs Python with the checkout's own package, outside of any checkout."""
    with tempfile.TemporaryDirectory() as elsewhere:
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )


def train(checkout: pathlib.Path, name: str, workdir: pathlib.Path) -> None:
    """Trains STEPS[name] steps, every one of them logged."""
    file = checkout / "configs" / ("quick.py" if name == "quick" else "acgan.py")
    keys = (checkout / "configs" / "acgan.py").read_text(encoding="utf-8")
    interval = BATCH_SIZE / 1000
    values = {
        "total_kimg": STEPS[name] * interval,
        "log_kimg": interval,
        "sample_kimg": 1000.0,
        "eval_kimg": 0.0,
        "checkpoint_kimg": 1000.0,
    }
    overrides = [
        f"--config.{key if f'config.{key} =' in keys else RENAMED_KEYS[key]}={value}"
        for key, value in values.items()
    ]
    run(
        checkout,
        *("-m", "cxr_gan.main", f"--config={file}", f"--workdir={workdir}"),
        *overrides,
    )


def checkpoint(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, by its path."""
    import orbax.checkpoint as ocp

    folder = workdir.absolute() / "checkpoints"
    newest = folder / str(max(int(path.name) for path in folder.iterdir()))
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = {item: checkpointer.restore(newest / item) for item in ("state", "ema")}
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def numbers(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number in a JSON document, with its path."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from numbers(value, f"{path}/{key}")
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from numbers(value, f"{path}/{index}")
    elif isinstance(content, int | float):
        yield path, float(content)


def record(checkout: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the files of the module's docstring."""
    out.mkdir(parents=True)
    losses: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in STEPS:
            workdir = pathlib.Path(scratch, name)
            train(checkout, name, workdir)
            arrays = checkpoint(workdir)
            wanted = "/nu/" if name == "first_step" else "/params/"
            chosen = {
                path: array
                for path, array in arrays.items()
                if wanted in path or (path.startswith("ema/") and wanted == "/params/")
            }
            np.savez(out / f"{name}.npz", **chosen)
            with (workdir / "metrics.jsonl").open(encoding="utf-8") as lines:
                for line in lines:
                    for path, value in numbers(json.loads(line), name):
                        if "/time/" not in path:
                            step = json.loads(line)["step"]
                            losses[f"{path}@{step}"] = np.array(value)
        np.savez(out / "losses.npz", **losses)
        run(checkout, "-c", SAMPLE, str(out.absolute() / "samples.npz"))
        report = pathlib.Path(scratch, "report")
        run(
            checkout,
            *("-m", "cxr_gan.evaluate", "--model=pediatric64", f"--out={report}"),
            *("--dataset=phantom:400", "--num=100"),
        )
        content = json.loads((report / "report.json").read_text(encoding="utf-8"))
        kept = {
            key: content[key]
            for key in ("figures", "metrics", "nearest_pairs")
            if key in content
        }
        np.savez(out / "evaluation.npz", **dict(numbers(kept)))


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute value of `before`."""
    if before.shape != after.shape:
        return float("inf")
    scale = np.abs(before).max(initial=0)
    apart = np.abs(after.astype(float) - before).max(initial=0)
    return float(apart / scale) if scale else float(apart)


def translate(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays under the names of 0.2."""
    translated = {}
    for name, array in arrays.items():
        for old, new in RENAMED_METRICS.items():
            name = name.replace(old, new)
        if not any(part in name for part in NOT_COMPARED):
            translated[name] = array
    return translated


def compare(reference: pathlib.Path, out: pathlib.Path) -> bool:
    """Prints a line for each part; whether all parts are equal bit for bit."""
    all_equal = True
    for path in sorted(reference.glob("*.npz")):
        with np.load(path) as old, np.load(out / path.name) as new:
            before, after = translate(dict(old)), translate(dict(new))
        if before.keys() != after.keys():
            missing = sorted(before.keys() - after.keys())
            added = sorted(after.keys() - before.keys())
            print(f"{path.stem}: missing {missing[:9]}, added {added[:9]}")
            all_equal = False
        unequal = {
            name: difference(before[name], after[name])
            for name in sorted(before.keys() & after.keys())
            if not np.array_equal(before[name], after[name])
        }
        worst = max(unequal, key=lambda name: unequal[name], default="")
        print(
            f"{path.stem}: {len(before)} arrays, "
            + (
                f"{len(unequal)} differ, by {unequal[worst]:.2g} at most ({worst})"
                if unequal
                else "equal bit for bit"
            )
        )
        all_equal &= not unequal
    return all_equal


def main(argv: Sequence[str]) -> int:
    """Records, then compares. Exit code 1 where something differs."""
    del argv
    logging.set_verbosity(logging.WARNING)
    out = pathlib.Path(_OUT.value)
    record(pathlib.Path(_CHECKOUT.value).absolute(), out)
    if _REFERENCE.value is None:
        return 0
    return 0 if compare(pathlib.Path(_REFERENCE.value), out) else 1


if __name__ == "__main__":
    app.run(main)
