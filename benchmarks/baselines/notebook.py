"""Trains the public ACGAN for a given time and writes 2,000 generated images.

    pip install -e ".[bench]"
    python -m benchmarks.baselines.notebook --dataset=DIR --out=runs/notebook.npz

It runs on one core. Batches have equally many images of each class, as those of
cxr_gan; the batches of notebooks are seldom balanced. OUT has the format that
`python -m cxr_gan.evaluate --images=` reads.
"""

import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tqdm
from absl import app, flags

from benchmarks.baselines import public_acgan, published
from benchmarks.baselines.stacked import Stacked
from cxr_gan import data
from cxr_gan.data import pipeline
from cxr_gan.models import pixel_range
from cxr_gan.storage import files

BATCH, RESOLUTION = 16, 64
NUM_IMAGES = 2_000  # generated, equally many of each class


def train(acgan: Stacked, dataset: data.Dataset, minutes: float) -> float:
    """Trains for this CPU time; returns the thousands of real images shown to D."""
    batches = pipeline.batches(
        dataset.train,
        num_classes=len(dataset.class_names),
        batch_size=BATCH,
        samples_per_class=(0,),
        seed=0,
    )
    shown, seconds = 0, 0.0
    with tqdm.tqdm(total=round(60 * minutes), unit="s", disable=None) as bar:
        while seconds < 60 * minutes:
            start = time.process_time()
            batch = next(batches)
            real = batch["image"].astype(np.float32) / 127.5 - 1
            acgan.train_step(real, batch["label"])
            elapsed = time.process_time() - start
            seconds += elapsed
            shown += BATCH
            bar.update(elapsed)
    return shown / 1000


def generate(acgan: Stacked, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [2000, 64, 64] and labels int32 [2000], classes interleaved."""
    labels = np.arange(NUM_IMAGES, dtype=np.int32) % num_classes
    images = [acgan.generate(chunk) for chunk in np.array_split(labels, 20)]
    return pixel_range.to_uint8(np.concatenate(images)[..., 0] * 0.5 + 0.5), labels


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Runs the command; returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        out = pathlib.Path(values.out)
        if out.suffix != ".npz":
            raise ValueError(f"--out={out}: give a name that ends in .npz")
        if out.exists():
            raise FileExistsError(f"{out} already exists; give another --out")
        dataset = data.load(values.dataset, RESOLUTION, split_seed=0)
        if len(dataset.class_names) != len(published.CLASS_NAMES):
            raise ValueError(
                f"--dataset={values.dataset} has {len(dataset.class_names)} classes; "
                "the benchmarks need a data set with two"
            )
        config = published.benchmark_config(BATCH, RESOLUTION)
        settings = published.settings_of(config)
        acgan = public_acgan.build(settings, cores=1)
        kimg = train(acgan, dataset, values.minutes)
        images, labels = generate(acgan, settings.num_classes)
        out.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(out) as path, path.open("wb") as file:
            np.savez_compressed(file, images=images, labels=labels)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{kimg:g} kimg in {values.minutes:g} minutes of CPU; wrote {out}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags; in a function, so that tests can pass their own values."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("dataset", None, "Real images, as in config.dataset.", **own)
    flags.DEFINE_string("out", None, "New .npz file to write.", **own)
    flags.DEFINE_float("minutes", 10.0, "CPU time of the training.", 0.01, **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """Entry point of the command line."""
    define_flags()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
