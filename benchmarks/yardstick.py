"""Tests the evaluation: whether each metric detects the fault it is meant to detect.

    python -m benchmarks.yardstick --dataset=path/to/chest_xray --out=yardstick.md

Real images with known faults are evaluated as if they were generated. They are of
patients of half B, selected by the seed and removed from the data set first, so neither
the encoder nor the label classifier was trained on them; unchanged, they are what a
perfect generator would produce. Each row of the table is one fault, and takes about a
minute on one core. Finished rows are kept as JSON in the folder of the table, and the
same command continues where it stopped.
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

from cxr_gan import data
from cxr_gan.data import ImageSet, splits
from cxr_gan.data.phantom import renderer
from cxr_gan.data.splits import patient_halves
from cxr_gan.evaluation import evaluator, image_sets, label_classifier_cache
from cxr_gan.evaluation.metrics import feature_spaces
from cxr_gan.evaluation.results import HEADLINE, POOLED, MetricKey
from cxr_gan.evaluation.verdict import HIGHEST

PER_CLASS = 250  # images of each class that get a fault
SPACES = ("cxr", "texture")


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out real images, and the real set they are evaluated against."""

    images: np.ndarray  # uint8 [n, s, s, 1], of patients that are not in `real`
    labels: np.ndarray  # int32 [n]
    real: image_sets.ReferenceSplits
    rng: np.random.Generator

    def sample_train(self) -> np.ndarray:
        """Random training images with the same labels, uint8 [n, s, s, 1]."""
        train = self.real.train
        selected = [
            self.rng.choice(np.flatnonzero(train.labels == label))
            for label in self.labels
        ]
        return train.images[selected]


def hold_out(dataset: data.Dataset, seed: int) -> HeldOut:
    """Removes half of the patients of half B from train, and selects their images.

    Raises:
        ValueError: the removed patients have fewer than PER_CLASS images of a class.
    """
    train, rng = dataset.train, np.random.default_rng(seed)
    patients = [str(splits.patient_of(name) or name) for name in train.ids]
    removed = np.array(
        [hashlib.sha256(f"{seed} {p}".encode()).digest()[0] < 128 for p in patients]
    ) & ~patient_halves(train.ids)
    rest = dataclasses.replace(dataset, train=train.take(~removed))
    real = image_sets.split_reference(rest)
    candidates = _unique(train.take(removed))
    selected = []
    for label, name in enumerate(dataset.class_names):
        members = np.flatnonzero(candidates.labels == label)
        if len(members) < PER_CLASS:
            raise ValueError(
                f"{len(members)} images of {name} can be held out; {PER_CLASS} are "
                "needed: give a larger data set"
            )
        selected.append(rng.permutation(members)[:PER_CLASS])
    rows = np.concatenate(selected)
    return HeldOut(candidates.images[rows], candidates.labels[rows], real, rng)


def _unique(images: ImageSet) -> ImageSet:
    first: dict[bytes, int] = {}
    for index, image in enumerate(images.images):
        first.setdefault(image.tobytes(), index)
    kept = np.zeros(len(images), bool)
    kept[list(first.values())] = True
    return images.take(kept)


def add_noise(images: np.ndarray, deviation: float, held_out: HeldOut) -> np.ndarray:
    """Adds white noise; `deviation` in grey levels."""
    return _uint8(images + held_out.rng.normal(0, deviation, images.shape))


def blur(images: np.ndarray, deviation: float) -> np.ndarray:
    """Convolves with a Gaussian; `deviation` in px."""
    return _uint8(
        ndimage.gaussian_filter(images.astype(float), (0, deviation, deviation, 0))
    )


def shift(images: np.ndarray, down: int, across: int) -> np.ndarray:
    """Shifts by px; edges are repeated."""
    return ndimage.shift(images, (0, down, across, 0), order=0, mode="nearest")


def repeat(held_out: HeldOut, count: int) -> np.ndarray:
    """Only `count` distinct images, equally many of each class, repeated."""
    result, per_class = held_out.images.copy(), count // len(held_out.real.class_names)
    for label in range(len(held_out.real.class_names)):
        members = np.flatnonzero(held_out.labels == label)
        result[members] = held_out.images[np.resize(members[:per_class], len(members))]
    return result


def average_pairs(held_out: HeldOut) -> np.ndarray:
    """The mean of each image and another image of its class."""
    other = held_out.images.copy()
    for label in range(len(held_out.real.class_names)):
        members = np.flatnonzero(held_out.labels == label)
        other[members] = held_out.images[np.roll(members, 1)]
    return _uint8((held_out.images.astype(float) + other) / 2)


def render_phantoms(held_out: HeldOut) -> np.ndarray:
    """Rendered phantoms in place of real images; two classes, NORMAL first."""
    size, n = held_out.images.shape[1], len(held_out.images)
    images, labels = renderer.render_many(1, range(3 * n), size)
    result = np.empty_like(held_out.images)
    for label in (0, 1):
        members = np.flatnonzero(held_out.labels == label)
        result[members] = images[labels == label][: len(members)]
    return result


def replace_share(held_out: HeldOut, other: np.ndarray, share: float) -> np.ndarray:
    """Replaces this share of the images by those of `other`, at random."""
    return np.where(
        (held_out.rng.random(len(other)) < share)[:, None, None, None],
        other,
        held_out.images,
    )


def _uint8(images: np.ndarray) -> np.ndarray:
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


Faulty = tuple[np.ndarray, np.ndarray]  # images, labels
# Name -> change of the held-out images. To test another fault, add it here.
FAULTS: dict[str, Callable[[HeldOut], Faulty]] = {
    "real, other patients": lambda h: (h.images, h.labels),
    "noise, sd 3": lambda h: (add_noise(h.images, 3, h), h.labels),
    "noise, sd 8": lambda h: (add_noise(h.images, 8, h), h.labels),
    "noise, sd 25": lambda h: (add_noise(h.images, 25, h), h.labels),
    "blur, 0.7 px": lambda h: (blur(h.images, 0.7), h.labels),
    "blur, 1.5 px": lambda h: (blur(h.images, 1.5), h.labels),
    "ten images repeated": lambda h: (repeat(h, 10), h.labels),
    "two fifths copied": lambda h: (replace_share(h, h.sample_train(), 0.4), h.labels),
    "copies, blurred by 1 px": lambda h: (blur(h.sample_train(), 1.0), h.labels),
    "copies, shifted by 2 px": lambda h: (shift(h.sample_train(), 2, -2), h.labels),
    "labels swapped": lambda h: (h.images, h.labels[::-1].copy()),
    "mean of two images": lambda h: (average_pairs(h), h.labels),
    "uniform noise": lambda h: (
        h.rng.integers(0, 256, h.images.shape, np.uint8),
        h.labels,
    ),
    "phantoms": lambda h: (render_phantoms(h), h.labels),
}

# Columns of the table: heading -> metric and its unit. Headings are keys of the JSON
# file of finished rows.
COLUMNS: dict[str, tuple[MetricKey, float]] = {
    "FID, cxr": (MetricKey("fid", "cxr", POOLED, HEADLINE), 1),
    "KID, cxr, millionths": (MetricKey("kid", "cxr", POOLED, HEADLINE), 1e-6),
    "KID of NORMAL, cxr, millionths": (
        MetricKey("kid", "cxr", "NORMAL", HEADLINE),
        1e-6,
    ),
    "precision, cxr": (MetricKey("precision", "cxr", POOLED, HEADLINE), 1),
    "recall, cxr": (MetricKey("recall", "cxr", POOLED, HEADLINE), 1),
    "coverage, cxr": (MetricKey("coverage", "cxr", POOLED, HEADLINE), 1),
    "KID, texture, thousandths": (MetricKey("kid", "texture", POOLED, HEADLINE), 1e-3),
    "finest octave, dB": (MetricKey("power", HIGHEST, "NORMAL", HEADLINE), 1),
    "labels given back": (
        MetricKey("label_accuracy", "classifier", POOLED, "generated"),
        1,
    ),
    "MS-SSIM above real": (MetricKey("ms_ssim", "pairs", "NORMAL", "generated~A+B"), 1),
    "below 1st percentile, cxr": (
        MetricKey("below_first_percentile", "cxr", POOLED, "generated~train"),
        1,
    ),
    "near copies, pixels": (
        MetricKey("near_copies", "pixels", POOLED, "generated~train"),
        1,
    ),
    "exact copies": (MetricKey("exact_copies", "bytes", POOLED, "generated~train"), 1),
}


def measure(dataset: data.Dataset, name: str, seed: int) -> dict[str, Any]:
    """One row: metrics by heading, and the verdict."""
    held_out = hold_out(dataset, seed)
    images, labels = FAULTS[name](held_out)
    classifier = label_classifier_cache.load_or_fit(
        held_out.real.train, len(dataset.class_names)
    )
    result = evaluator.evaluate(
        images,
        labels,
        held_out.real,
        spaces=[feature_spaces.open_space(space) for space in SPACES],
        classifier=classifier,
        seed=seed,
    )
    metrics = {
        heading: result.estimates[key].value / unit
        for heading, (key, unit) in COLUMNS.items()
    }
    return {"figures": metrics, "verdict": result.verdict}


def table(rows: dict[str, dict[str, dict[str, Any]]]) -> str:
    """{fault: {seed: row}} -> Markdown: mean and standard deviation over seeds."""
    lines = ["| fault | " + " | ".join(COLUMNS) + " | verdict |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name, seeds in rows.items():
        cells = []
        for heading in COLUMNS:
            values = [row["figures"][heading] for row in seeds.values()]
            cells.append(f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.2g}")
        verdicts = sorted(
            {row["verdict"].removeprefix("verdict: ") for row in seeds.values()}
        )
        lines.append(f"| {name} | {' | '.join(cells)} | {' / '.join(verdicts)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Evaluates the missing rows and writes the table; returns the exit code."""
    out = pathlib.Path(values.out)
    results = out.with_suffix(".json")
    dataset = data.load(values.dataset, values.resolution, split_seed=0)
    rows = json.loads(results.read_text()) if results.exists() else {}
    jobs = [(name, seed) for seed in range(values.seeds) for name in FAULTS]
    for name, seed in tqdm.tqdm(jobs, "Faults", disable=None):
        seeds = rows.setdefault(name, {})
        if str(seed) in seeds:
            continue
        seeds[str(seed)] = measure(dataset, name, seed)
        print(f"{name}, seed {seed}: {seeds[str(seed)]['verdict']}", flush=True)
        results.write_text(json.dumps(rows, indent=1) + "\n")
    out.write_text(HEAD.format(seeds=values.seeds, n=PER_CLASS) + table(rows))
    print(f"wrote {out}")
    return 0


HEAD = """# Test of the evaluation

Made by

    python -m benchmarks.yardstick --dataset=path/to/chest_xray --out=yardstick.md

Each row: {n} real images of each class with one fault, evaluated as if they were
generated. Their patients are neither in the rest of the data set nor in the training
data of the encoder or the label classifier. Mean and standard deviation over {seeds}
seeds, which select the patients. The first row is what a perfect generator would reach.
The rules of the verdict are in `cxr_gan/evaluation/verdict.py`; they were not fitted to
these rows.

"""


def cli() -> None:
    """Entry point of the command line."""
    flags.DEFINE_string("dataset", None, "Real images, written as config.dataset.")
    flags.DEFINE_string(
        "out", None, "Markdown table to write; rows go to a .json of the same name."
    )
    flags.DEFINE_integer("seeds", 3, "Number of repetitions with other patients.", 2)
    flags.DEFINE_integer("resolution", 64, "Pixels per side.", 32)
    flags.mark_flags_as_required(["dataset", "out"])
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
