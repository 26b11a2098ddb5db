r"""Trains a baseline on a data set and writes 2,000 generated images.

    pip install -e ".[bench]"
    python -m benchmarks.train_baseline --baseline=recipe --kimg=250 \
        --dataset=path/to/chest_xray --workdir=runs/recipe
    python -m cxr_gan.evaluate --images=runs/recipe/250.npz \
        --dataset=path/to/chest_xray --out=runs/report_recipe

Training runs on one core, in batches with equally many images of each class, as those
of cxr_gan. It ends after --kimg or --minutes of CPU time. Every --save_kimg, and at the
end, the images are written to WORKDIR/KIMG.npz.
"""

import importlib
import itertools
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm
from absl import flags

from benchmarks import command_line
from benchmarks.baselines import Program
from cxr_gan import data
from cxr_gan.data import pipeline
from cxr_gan.storage import files

# --baseline -> module of benchmarks.baselines; has program(dataset, seed).
TRAINABLE = {
    "recipe": "recipe",
    "public_acgan": "public_acgan",
    "gaussian": "gaussian",
}
RESOLUTION = 64  # the only one of baselines that are trained
NUM_IMAGES = 2_000  # in each .npz, equally many of each class


def train(
    program: Program, dataset: data.Dataset, kimg: float, minutes: float, seed: int
) -> Iterator[tuple[float, float]]:
    """Trains until kimg are shown to D or minutes of CPU time have passed.

    Yields:
        kimg and CPU seconds so far, after each step.
    """
    if program.train_step is None:
        yield 0.0, 0.0
        return
    batches = pipeline.batches(
        dataset.train,
        num_classes=len(dataset.class_names),
        batch_size=program.batch_size,
        samples_per_class=(0,),
        seed=seed,
    )
    seconds = 0.0
    for step in tqdm.tqdm(itertools.count(1), "steps", disable=None):
        start = time.process_time()
        batch = next(batches)
        program.train_step(batch["image"], batch["label"])
        seconds += time.process_time() - start
        shown = step * program.batch_size / 1000
        yield shown, seconds
        if shown >= kimg or 0 < 60 * minutes <= seconds:
            return


def save_images(
    program: Program, num_classes: int, folder: pathlib.Path, kimg: float
) -> None:
    """Writes images and labels to KIMG.npz, as `cxr_gan.evaluate --images` reads."""
    labels = np.arange(NUM_IMAGES, dtype=np.int32) % num_classes
    images = program.generate(labels)
    with files.atomic_write(folder / f"{kimg:.0f}.npz") as path, path.open("wb") as out:
        np.savez_compressed(out, images=images, labels=labels)


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Trains a baseline; the table shows the CPU time at each file of images."""
    if values.kimg <= 0 and values.minutes <= 0:
        raise ValueError("give --kimg or --minutes above 0")
    folder = pathlib.Path(values.workdir)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; give another --workdir")
    dataset = data.load(values.dataset, values.resolution, split_seed=0)
    module = importlib.import_module(
        f"benchmarks.baselines.{TRAINABLE[values.baseline]}"
    )
    program = module.program(dataset, values.seed)
    if program.train_step and values.resolution != RESOLUTION:
        raise ValueError(
            f"--resolution={values.resolution}: {values.baseline} has {RESOLUTION} px"
        )
    folder.mkdir(parents=True)
    kimg = values.kimg or float("inf")
    saved: list[dict[str, float]] = []
    for shown, seconds in train(program, dataset, kimg, values.minutes, values.seed):
        last = {"kimg": shown, "cpu_seconds": round(seconds, 1)}
        if shown >= min(values.save_kimg * (len(saved) + 1), kimg):
            save_images(program, len(dataset.class_names), folder, shown)
            saved.append(last)
    if last not in saved:
        save_images(program, len(dataset.class_names), folder, shown)
        saved.append(last)
    rows = [[f"{x['kimg']:g}", f"{x['cpu_seconds'] / 60:.1f}"] for x in saved]
    return {"saved": saved}, command_line.table(["kimg", "CPU minutes"], rows)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_enum("baseline", None, [*TRAINABLE], "Baseline to train.", **own)
    flags.DEFINE_string("dataset", None, "Real images, as in config.dataset.", **own)
    flags.DEFINE_string("workdir", None, "New folder for the images.", **own)
    flags.DEFINE_integer("resolution", RESOLUTION, "Pixels per side.", 32, **own)
    flags.DEFINE_float("kimg", 250.0, "Thousands of images; 0: no limit.", 0, **own)
    flags.DEFINE_float("minutes", 0.0, "CPU time; 0: no limit.", 0, **own)
    flags.DEFINE_float("save_kimg", 50.0, "Interval between files.", 0.001, **own)
    flags.DEFINE_integer("seed", 0, "Seed of weights, latents and batches.", 0, **own)
    flags.mark_flags_as_required(["baseline", "dataset", "workdir"], **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
