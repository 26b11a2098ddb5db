"""Compares the same training in float32 and in bfloat16, over several seeds.

A part of benchmarks.scaling. Each training and its evaluation have their own folder,
FOLDER/DTYPE-SEED. Existing results are not computed again.
"""

import json
import pathlib
import statistics
import subprocess
import sys
from typing import Any

from benchmarks import pages
from cxr_gan.config import COMPUTE_DTYPES
from cxr_gan.evaluation.results import HEADLINE, POOLED

SEEDS = 3  # trainings with each dtype
DATASET, KIMG = "phantom:3000", 40.0
TRAINING = ("--config=configs/quick.py", f"--config.total_kimg={KIMG}")
REPORT = "report/report.json"
METRICS = {
    "FID, `cxr`": ("fid", "cxr", HEADLINE),
    "KID, `cxr`": ("kid", "cxr", HEADLINE),
    "recall, `cxr`": ("recall", "cxr", HEADLINE),
    "FID, `texture`": ("fid", "texture", HEADLINE),
    "label accuracy": ("label_accuracy", "classifier", "generated"),
    "MS-SSIM above real": ("ms_ssim", "pairs", "generated~A+B"),
}


def measure(folder: pathlib.Path, seeds: int) -> dict[str, Any]:
    """Metrics of seeds 0, 1, ... with each dtype, and of other finished seeds.

    Raises:
        ChildProcessError: a training or an evaluation failed.
    """
    for seed in range(seeds):
        for dtype in COMPUTE_DTYPES:
            place = folder / f"{dtype}-{seed}"
            if not (place / REPORT).exists():
                train_and_evaluate(place, dtype, seed)
    found = {
        dtype: [
            report_metrics(json.loads(report.read_text(encoding="utf-8"))["metrics"])
            for report in sorted(folder.glob(f"{dtype}-*/{REPORT}"))
        ]
        for dtype in COMPUTE_DTYPES
    }
    return {"about": pages.circumstances(["jax"]), "kimg": KIMG, "found": found}


def run(*arguments: str) -> None:
    """Runs a module of cxr_gan as a command; raises ChildProcessError if it fails."""
    if code := subprocess.run(
        [sys.executable, "-m", *arguments], check=False
    ).returncode:
        raise ChildProcessError(f"{' '.join(arguments)} ended with exit code {code}")


def train_and_evaluate(place: pathlib.Path, dtype: str, seed: int) -> None:
    """Runs both command lines; an unfinished training continues."""
    run(
        "cxr_gan.main",
        *TRAINING,
        f"--config.dataset={DATASET}",
        f"--config.compute_dtype={dtype}",
        f"--config.seed={seed}",
        f"--workdir={place / 'run'}",
    )
    run(
        "cxr_gan.evaluate",
        f"--model={place / 'run'}",
        f"--dataset={DATASET}",
        f"--out={place / 'report'}",
    )


def report_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """METRICS of the pooled classes, or the mean over classes if there is none."""
    found = {}
    for name, key in METRICS.items():
        groups = {
            row["group"]: row["value"]
            for row in rows
            if (row["metric"], row["space"], row["sets"]) == key
        }
        pooled = groups.get(POOLED, statistics.fmean(groups.values()))
        found[name] = pooled
    return found


def overlap(one: list[float], other: list[float]) -> str:
    """Whether the ranges of the values overlap; needs two seeds or more of each."""
    if min(len(one), len(other)) < 2:
        return "too few seeds"
    return "no" if max(one) < min(other) or max(other) < min(one) else "yes"


def text(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for name in METRICS:
        values = [
            [metrics[name] for metrics in results["found"][dtype]]
            for dtype in COMPUTE_DTYPES
        ]
        each = [" ".join(f"{value:.3f}" for value in seeds) for seeds in values]
        means = [f"{statistics.fmean(seeds):.3f}" for seeds in values]
        rows.append(
            [
                name,
                *(f"{m} ({e})" for m, e in zip(means, each, strict=True)),
                overlap(*values),
            ]
        )
    about = ", ".join(f"{k} {v}" for k, v in results["about"].items())
    return (
        f"{results['kimg']:g} kimg per training; mean (each seed); {about}.\n\n"
    ) + pages.table(["", *COMPUTE_DTYPES, "seeds overlap"], rows)
