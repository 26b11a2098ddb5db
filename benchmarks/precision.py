"""The same training in float32 and in bfloat16, side by side, by more than one seed.

A part of benchmarks.scaling. Each training and its evaluation stand in a folder of
their own, FOLDER/PRECISION-SEED; what is there is not done again.
"""

import json
import pathlib
import statistics
from typing import Any

from benchmarks import pages
from benchmarks.utility import run
from cxr_gan.config import PRECISIONS
from cxr_gan.evaluation.figures import HEADLINE, POOLED

SEEDS = 3  # trainings in each precision
DATASET, KIMG = "phantom:3000", 40.0
TRAINING = ("--config=configs/quick.py", f"--config.total_kimg={KIMG}")
REPORT = "report/report.json"
FIGURES = {
    "FID, `cxr`": ("fid", "cxr", HEADLINE),
    "KID, `cxr`": ("kid", "cxr", HEADLINE),
    "recall, `cxr`": ("recall", "cxr", HEADLINE),
    "FID, `texture`": ("fid", "texture", HEADLINE),
    "class given back by the judge": ("label_fidelity", "judge", "generated"),
    "likeness (MS-SSIM) above real": ("ms_ssim", "pairs", "generated~A+B"),
}


def measure(folder: pathlib.Path, seeds: int) -> dict[str, Any]:
    """Every figure of seeds 0, 1, .. in each precision, and of others that are there.

    Raises:
        ChildProcessError: a training or an evaluation failed.
    """
    for seed in range(seeds):
        for precision in PRECISIONS:
            place = folder / f"{precision}-{seed}"
            if not (place / REPORT).exists():
                train_and_evaluate(place, precision, seed)
    found = {
        precision: [
            of_report(json.loads(told.read_text(encoding="utf-8"))["figures"])
            for told in sorted(folder.glob(f"{precision}-*/{REPORT}"))
        ]
        for precision in PRECISIONS
    }
    return {"about": pages.circumstances(["jax"]), "kimg": KIMG, "found": found}


def train_and_evaluate(place: pathlib.Path, precision: str, seed: int) -> None:
    """Both as typed in a terminal; an unfinished training goes on."""
    run(
        "cxr_gan.main",
        *TRAINING,
        f"--config.dataset={DATASET}",
        f"--config.precision={precision}",
        f"--config.seed={seed}",
        f"--workdir={place / 'run'}",
    )
    run(
        "cxr_gan.evaluate",
        f"--model={place / 'run'}",
        f"--dataset={DATASET}",
        f"--out={place / 'report'}",
    )


def of_report(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of all classes together; where a figure is of single classes, their mean."""
    found = {}
    for name, asked in FIGURES.items():
        groups = {
            row["group"]: row["value"]
            for row in rows
            if (row["metric"], row["space"], row["sets"]) == asked
        }
        pooled = groups.get(POOLED, statistics.fmean(groups.values()))
        found[name] = pooled
    return found


def overlap(one: list[float], other: list[float]) -> str:
    """Whether some seeds of one lie between those of the other; from two seeds each."""
    if min(len(one), len(other)) < 2:
        return "too few seeds"
    return "no" if max(one) < min(other) or max(other) < min(one) else "yes"


def text(figures: dict[str, Any]) -> str:
    """Markdown."""
    rows = []
    for name in FIGURES:
        values = [[of[name] for of in figures["found"][kind]] for kind in PRECISIONS]
        told = [" ".join(f"{value:.3f}" for value in seeds) for seeds in values]
        means = [f"{statistics.fmean(seeds):.3f}" for seeds in values]
        rows.append(
            [
                name,
                *(f"{m} ({t})" for m, t in zip(means, told, strict=True)),
                overlap(*values),
            ]
        )
    about = ", ".join(f"{k} {v}" for k, v in figures["about"].items())
    return (
        f"{figures['kimg']:g} kimg each; mean (each seed); {about}.\n\n"
    ) + pages.table(["", *PRECISIONS, "seeds overlap"], rows)
