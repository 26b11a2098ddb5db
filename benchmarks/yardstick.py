"""Puts the evaluation to the test: does each figure react to what it is for?

    python -m benchmarks.yardstick --dataset=path/to/chest_xray --out=docs/yardstick.md

Real images whose faults are known are evaluated as if they were generated. They are of
patients of half B, drawn by the seed, who are taken out of the data set first: neither
encoder nor judge has seen them, and the clean ones are what a perfect generator draws.
Each row is one fault. A row takes a core about a minute; finished ones are kept in a
file beside the table, and the same command goes on where it stopped.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tqdm
from absl import app, flags, logging
from scipy import ndimage

from cxr_gan import data, evaluation, judges
from cxr_gan.data import ImageSet, phantom, splits
from cxr_gan.data.halves import halves
from cxr_gan.evaluation.figures import HEADLINE, POOLED, Key
from cxr_gan.evaluation.verdict import HIGHEST
from cxr_gan.metrics import features

PER_CLASS = 250  # images of each class that are spoilt
SPACES = ("cxr", "texture")


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """Clean images, and the real set they are evaluated against."""

    images: np.ndarray  # uint8 [n, s, s, 1], of patients that `real` has not
    labels: np.ndarray  # int32 [n]
    real: evaluation.Real
    rng: np.random.Generator

    def of_train(self) -> np.ndarray:
        """Training images of the same labels, drawn at random: uint8 [n, s, s, 1]."""
        train = self.real.train
        chosen = [
            self.rng.choice(np.flatnonzero(train.labels == label))
            for label in self.labels
        ]
        return train.images[chosen]


def world_of(dataset: data.Dataset, seed: int) -> World:
    """Takes half of the patients of half B out of train, and some of their images.

    Raises:
        ValueError: fewer than PER_CLASS images of a class are left on either side.
    """
    train, rng = dataset.train, np.random.default_rng(seed)
    patients = [str(splits.patient_of(name) or name) for name in train.ids]
    taken = np.array(
        [hashlib.sha256(f"{seed} {p}".encode()).digest()[0] < 128 for p in patients]
    ) & ~halves(train.ids)
    rest = dataclasses.replace(dataset, train=train.take(~taken))
    real = evaluation.divide(rest)
    subject = _unique(train.take(taken))
    chosen = []
    for label, name in enumerate(dataset.class_names):
        members = np.flatnonzero(subject.labels == label)
        if len(members) < PER_CLASS:
            raise ValueError(
                f"{len(members)} images of {name} can be set apart; {PER_CLASS} are "
                "needed: give a larger data set"
            )
        chosen.append(rng.permutation(members)[:PER_CLASS])
    rows = np.concatenate(chosen)
    return World(subject.images[rows], subject.labels[rows], real, rng)


def _unique(images: ImageSet) -> ImageSet:
    first: dict[bytes, int] = {}
    for index, image in enumerate(images.images):
        first.setdefault(image.tobytes(), index)
    kept = np.zeros(len(images), bool)
    kept[list(first.values())] = True
    return images.take(kept)


def noised(images: np.ndarray, deviation: float, world: World) -> np.ndarray:
    """White noise of that many grey levels."""
    return _uint8(images + world.rng.normal(0, deviation, images.shape))


def blurred(images: np.ndarray, deviation: float) -> np.ndarray:
    """Through a Gaussian of that many px."""
    return _uint8(
        ndimage.gaussian_filter(images.astype(float), (0, deviation, deviation, 0))
    )


def shifted(images: np.ndarray, down: int, across: int) -> np.ndarray:
    """Moved by px; the edge is drawn out."""
    return ndimage.shift(images, (0, down, across, 0), order=0, mode="nearest")


def repeated(world: World, count: int) -> np.ndarray:
    """`count` images in all, as many of each class, again and again."""
    result, each = world.images.copy(), count // len(world.real.class_names)
    for label in range(len(world.real.class_names)):
        members = np.flatnonzero(world.labels == label)
        result[members] = world.images[np.resize(members[:each], len(members))]
    return result


def mixed(world: World) -> np.ndarray:
    """The mean of each image and another of its class."""
    other = world.images.copy()
    for label in range(len(world.real.class_names)):
        members = np.flatnonzero(world.labels == label)
        other[members] = world.images[np.roll(members, 1)]
    return _uint8((world.images.astype(float) + other) / 2)


def phantoms(world: World) -> np.ndarray:
    """Drawn chests in place of real ones; two classes, NORMAL first."""
    size, n = world.images.shape[1], len(world.images)
    images, labels = phantom.render_many(1, range(3 * n), size)
    result = np.empty_like(world.images)
    for label in (0, 1):
        members = np.flatnonzero(world.labels == label)
        result[members] = images[labels == label][: len(members)]
    return result


def partly(world: World, other: np.ndarray, share: float) -> np.ndarray:
    """That share of images replaced, in every class."""
    return np.where(
        (world.rng.random(len(other)) < share)[:, None, None, None], other, world.images
    )


def _uint8(images: np.ndarray) -> np.ndarray:
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


Spoilt = tuple[np.ndarray, np.ndarray]  # images, labels
# What is done to clean images. To put the yardstick to another test, add it here.
FAULTS: dict[str, Callable[[World], Spoilt]] = {
    "real, other patients": lambda w: (w.images, w.labels),
    "noise, sd 3": lambda w: (noised(w.images, 3, w), w.labels),
    "noise, sd 8": lambda w: (noised(w.images, 8, w), w.labels),
    "noise, sd 25": lambda w: (noised(w.images, 25, w), w.labels),
    "blur, 0.7 px": lambda w: (blurred(w.images, 0.7), w.labels),
    "blur, 1.5 px": lambda w: (blurred(w.images, 1.5), w.labels),
    "ten images repeated": lambda w: (repeated(w, 10), w.labels),
    "two fifths copied": lambda w: (partly(w, w.of_train(), 0.4), w.labels),
    "copies, blurred by 1 px": lambda w: (blurred(w.of_train(), 1.0), w.labels),
    "copies, shifted by 2 px": lambda w: (shifted(w.of_train(), 2, -2), w.labels),
    "labels swapped": lambda w: (w.images, w.labels[::-1].copy()),
    "mean of two images": lambda w: (mixed(w), w.labels),
    "uniform noise": lambda w: (
        w.rng.integers(0, 256, w.images.shape, np.uint8),
        w.labels,
    ),
    "phantoms": lambda w: (phantoms(w), w.labels),
}

# Columns of the table: heading -> the figure shown, and its unit.
COLUMNS: dict[str, tuple[Key, float]] = {
    "FID, cxr": (Key("fid", "cxr", POOLED, HEADLINE), 1),
    "KID, cxr, millionths": (Key("kid", "cxr", POOLED, HEADLINE), 1e-6),
    "KID of NORMAL, cxr, millionths": (Key("kid", "cxr", "NORMAL", HEADLINE), 1e-6),
    "precision, cxr": (Key("precision", "cxr", POOLED, HEADLINE), 1),
    "recall, cxr": (Key("recall", "cxr", POOLED, HEADLINE), 1),
    "coverage, cxr": (Key("coverage", "cxr", POOLED, HEADLINE), 1),
    "KID, texture, thousandths": (Key("kid", "texture", POOLED, HEADLINE), 1e-3),
    "finest octave, dB": (Key("power", HIGHEST, "NORMAL", HEADLINE), 1),
    "labels given back": (Key("label_fidelity", "judge", POOLED, "generated"), 1),
    "MS-SSIM above real": (Key("ms_ssim", "pairs", "NORMAL", "generated~A+B"), 1),
    "below 1st percentile, cxr": (
        Key("below_first_percentile", "cxr", POOLED, "generated~train"),
        1,
    ),
    "near copies, pixels": (Key("near_copies", "pixels", POOLED, "generated~train"), 1),
    "exact copies": (Key("exact_copies", "bytes", POOLED, "generated~train"), 1),
}


def measure(dataset: data.Dataset, name: str, seed: int) -> dict[str, Any]:
    """One row: figures by heading, and the verdict."""
    world = world_of(dataset, seed)
    images, labels = FAULTS[name](world)
    judge = judges.judge_of(world.real.train, len(dataset.class_names))
    found = evaluation.evaluate(
        images,
        labels,
        world.real,
        spaces=[features.space(space) for space in SPACES],
        judge=judge,
        seed=seed,
    )
    figures = {
        heading: found.figures[key].value / unit
        for heading, (key, unit) in COLUMNS.items()
    }
    return {"figures": figures, "verdict": found.verdict}


def table(rows: dict[str, dict[str, dict[str, Any]]]) -> str:
    """{fault: {seed: row}} -> Markdown: mean and standard deviation over seeds."""
    lines = ["| fault | " + " | ".join(COLUMNS) + " | verdict |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name, seeds in rows.items():
        cells = []
        for heading in COLUMNS:
            values = [row["figures"][heading] for row in seeds.values()]
            cells.append(f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.2g}")
        said = sorted(
            {row["verdict"].removeprefix("verdict: ") for row in seeds.values()}
        )
        lines.append(f"| {name} | {' | '.join(cells)} | {' / '.join(said)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    out = pathlib.Path(values.out)
    kept = out.with_suffix(".json")
    dataset = data.load(values.dataset, values.resolution, split_seed=0)
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    jobs = [(name, seed) for seed in range(values.seeds) for name in FAULTS]
    for name, seed in tqdm.tqdm(jobs, "Faults", disable=None):
        seeds = rows.setdefault(name, {})
        if str(seed) in seeds:
            continue
        seeds[str(seed)] = measure(dataset, name, seed)
        print(f"{name}, seed {seed}: {seeds[str(seed)]['verdict']}", flush=True)
        kept.write_text(json.dumps(rows, indent=1) + "\n")
    out.write_text(HEAD.format(seeds=values.seeds, n=PER_CLASS) + table(rows))
    print(f"wrote {out}")
    return 0


HEAD = """# The yardstick, itself measured

Made by

    python -m benchmarks.yardstick --dataset=path/to/chest_xray --out=docs/yardstick.md

Each row: {n} real images of each class, of patients whom neither the rest of the data
set nor the encoder nor the judge of labels has, spoilt in one way and evaluated as if
they were generated. Mean and standard deviation over {seeds} seeds, which draw the
patients. The first row is what a perfect generator would reach. The rules of the
verdict stand in `cxr_gan/evaluation/verdict.py`; they were not fitted to these rows.

"""


def cli() -> None:
    """The command as typed in a terminal."""
    flags.DEFINE_string("dataset", None, "Real images, as config.dataset.")
    flags.DEFINE_string("out", None, "Table to write, Markdown; rows beside it, JSON.")
    flags.DEFINE_integer("seeds", 3, "How often, with other patients.", 2)
    flags.DEFINE_integer("resolution", 64, "Pixels a side.", 32)
    flags.mark_flags_as_required(["dataset", "out"])
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
