"""The public ACGAN, trained on the same images for as long as one is willing to wait.

    pip install -e ".[bench]"
    python -m benchmarks.rivals.notebook --dataset=path/to/chest_xray --out=runs/n.npz

One core's time, and batches as balanced as ours: notebooks seldom are so kind. At the
end OUT gets 2,000 images, as `python -m cxr_gan.evaluate --images=` takes them.
"""

import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tqdm
from absl import app, flags

from benchmarks.rivals import public_acgan, published
from benchmarks.rivals.stacked import Stacked
from cxr_gan import data, disk, images
from cxr_gan.data import pipeline

BATCH, RESOLUTION = 16, 64
DRAWN = 2_000  # images, all classes equally


def train(acgan: Stacked, dataset: data.Dataset, minutes: float) -> float:
    """Rounds for so many minutes of CPU; returns thousands of real images shown."""
    feed = pipeline.batches(
        dataset.train,
        num_classes=len(dataset.class_names),
        batch_size=BATCH,
        samples_per_class=(0,),
        seed=0,
    )
    shown, seconds = 0, 0.0
    with tqdm.tqdm(total=round(60 * minutes), unit="s", disable=None) as bar:
        while seconds < 60 * minutes:
            begun = time.process_time()
            batch = next(feed)
            real = batch["image"].astype(np.float32) / 127.5 - 1
            acgan.learn(real, batch["label"])
            took = time.process_time() - begun
            seconds += took
            shown += BATCH
            bar.update(took)
    return shown / 1000


def draw(acgan: Stacked, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [2000, 64, 64] and labels int32 [2000], interleaved."""
    labels = np.arange(DRAWN, dtype=np.int32) % num_classes
    drawn = [acgan.draw(some) for some in np.array_split(labels, 20)]
    return images.to_uint8(np.concatenate(drawn)[..., 0] * 0.5 + 0.5), labels


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out = pathlib.Path(values.out)
        if out.suffix != ".npz":
            raise ValueError(f"--out={out}: give a name that ends in .npz")
        if out.exists():
            raise FileExistsError(f"{out} is there already; give another --out")
        dataset = data.load(values.dataset, RESOLUTION, split_seed=0)
        if len(dataset.class_names) != len(published.CLASS_NAMES):
            raise ValueError(
                f"--dataset={values.dataset} has {len(dataset.class_names)} classes; "
                "give one of two, as contests are played with"
            )
        rules = published.rules_of(published.measured(BATCH, RESOLUTION))
        acgan = public_acgan.build(rules, cores=1)
        kimg = train(acgan, dataset, values.minutes)
        drawn, labels = draw(acgan, rules.num_classes)
        out.parent.mkdir(parents=True, exist_ok=True)
        with disk.whole(out) as path, path.open("wb") as file:
            np.savez_compressed(file, images=drawn, labels=labels)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{kimg:g} kimg in {values.minutes:g} minutes of CPU; wrote {out}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, so that tests can give their own."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("dataset", None, "Real images, as config.dataset.", **own)
    flags.DEFINE_string("out", None, "New .npz to write.", **own)
    flags.DEFINE_float("minutes", 10.0, "CPU time of training.", 0.01, **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
