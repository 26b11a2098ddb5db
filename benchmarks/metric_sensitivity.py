"""Tests the evaluation: whether each metric detects the fault it is meant to detect.

    python -m benchmarks.metric_sensitivity --dataset=path/to/chest_xray \
        --out=metric_sensitivity.json

Real images with known faults are evaluated as if they were generated. They are of
patients of half B, selected by the seed and removed from the data set first, so neither
the encoder nor the label classifier was trained on them; unchanged, they are what a
perfect generator would produce. Each row of the table is one fault, with mean and
standard deviation over seeds. A fault takes about a minute on one core. Finished rows
are kept in --workdir, and the same command continues where it stopped.
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from absl import flags
from scipy import ndimage

from benchmarks import command_line
from cxr_gan import data
from cxr_gan.data import patients, splits
from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation import evaluator, image_sets, label_classifier_cache
from cxr_gan.evaluation.metrics import feature_spaces
from cxr_gan.evaluation.results import HEADLINE, POOLED, MetricKey
from cxr_gan.evaluation.verdict import HIGHEST

PER_CLASS = 250  # images of each class that get a fault
SPACES = ("cxr", "texture")


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out real images, and the real set they are evaluated against."""

    images: np.ndarray  # uint8 [k, n, s, s, 1], n of each class; patients not in `real`
    real: image_sets.ReferenceSplits
    rng: np.random.Generator

    def sample_train(self) -> np.ndarray:
        """Random training images, uint8 [k, n, s, s, 1]."""
        train = self.real.train
        sampled = [
            self.rng.choice(np.flatnonzero(train.labels == label), len(images))
            for label, images in enumerate(self.images)
        ]
        return train.images[np.stack(sampled)]


def hold_out(dataset: data.Dataset, seed: int) -> HeldOut:
    """Removes half of the patients of half B from train, and selects their images.

    Raises:
        ValueError: the removed patients have fewer than PER_CLASS images of a class.
    """
    train, rng = dataset.train, np.random.default_rng(seed)
    removed = np.array(
        [
            hashlib.sha256(f"{seed} {patient}".encode()).digest()[0] < 128
            for patient in patients.keys_of(train)
        ]
    ) & ~splits.in_half_a(train)
    rest = dataclasses.replace(dataset, train=train.take(~removed))
    candidates = train.take(removed)
    pixels = candidates.images.reshape(len(candidates), -1)
    is_first = np.zeros(len(candidates), bool)
    is_first[np.unique(pixels, axis=0, return_index=True)[1]] = True
    selected = []
    for label, name in enumerate(dataset.class_names):
        members = np.flatnonzero(is_first & (candidates.labels == label))
        if len(members) < PER_CLASS:
            raise ValueError(
                f"{len(members)} images of {name} can be held out; {PER_CLASS} are "
                "needed: give a larger data set"
            )
        selected.append(rng.permutation(members)[:PER_CLASS])
    images = candidates.images[np.stack(selected)]
    return HeldOut(images, image_sets.split_reference(rest), rng)


# Each fault takes held-out images and returns uint8 [k, n, s, s, 1].


def noise(held_out: HeldOut, deviation: float) -> np.ndarray:
    """Adds white noise; `deviation` in grey levels."""
    white = held_out.rng.normal(0, deviation, held_out.images.shape)
    return to_uint8(held_out.images + white)


def uniform_noise(held_out: HeldOut) -> np.ndarray:
    """Uniform white noise in place of the images."""
    return held_out.rng.integers(0, 256, held_out.images.shape, np.uint8)


def blur(images: np.ndarray, deviation: float) -> np.ndarray:
    """Convolves with a Gaussian; `deviation` in px."""
    sigma = (0, 0, deviation, deviation, 0)
    return to_uint8(ndimage.gaussian_filter(images.astype(float), sigma))


def stripes(images: np.ndarray, width: int) -> np.ndarray:
    """Adds 2 grey levels to `width` rows, subtracts 2 from as many, and so on."""
    row = np.arange(images.shape[2])
    level = np.where(row // width % 2, 2, -2)
    return to_uint8(images.astype(int) + level[:, None, None])


def shift(images: np.ndarray, down: int, across: int) -> np.ndarray:
    """Shifts by px; edges are repeated."""
    return ndimage.shift(images, (0, 0, down, across, 0), order=0, mode="nearest")


def repeat(held_out: HeldOut, per_class: int) -> np.ndarray:
    """Only `per_class` distinct images of each class, repeated."""
    rows = np.resize(np.arange(per_class), held_out.images.shape[1])
    return held_out.images[:, rows]


def copy_share(held_out: HeldOut, share: float) -> np.ndarray:
    """Replaces this share of the images by training images, at random."""
    copies = held_out.sample_train()
    is_copy = held_out.rng.random(copies.shape[:2]) < share
    return np.where(is_copy[:, :, None, None, None], copies, held_out.images)


def average_pairs(held_out: HeldOut) -> np.ndarray:
    """The mean of each image and another image of its class."""
    images = held_out.images.astype(float)
    return to_uint8((images + np.roll(images, 1, axis=1)) / 2)


def render_phantoms(held_out: HeldOut) -> np.ndarray:
    """Rendered phantoms in place of real images; two classes, NORMAL first."""
    classes, n, size = held_out.images.shape[:3]
    images, labels = renderer.render_many(1, range(3 * n * classes), size)
    return np.stack([images[labels == label][:n] for label in range(classes)])


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Rounded and clipped grey levels."""
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


# To test another fault, add it here.
FAULTS: dict[str, Callable[[HeldOut], np.ndarray]] = {
    "real, other patients": lambda h: h.images,
    "noise, sd 3": lambda h: noise(h, 3),
    "noise, sd 8": lambda h: noise(h, 8),
    "noise, sd 25": lambda h: noise(h, 25),
    "blur, 0.7 px": lambda h: blur(h.images, 0.7),
    "blur, 1.5 px": lambda h: blur(h.images, 1.5),
    "stripes of 1 px": lambda h: stripes(h.images, 1),
    "stripes of 2 px": lambda h: stripes(h.images, 2),
    "ten images repeated": lambda h: repeat(h, 5),
    "two fifths copied": lambda h: copy_share(h, 0.4),
    "copies, blurred by 1 px": lambda h: blur(h.sample_train(), 1.0),
    "copies, shifted by 2 px": lambda h: shift(h.sample_train(), 2, -2),
    "labels swapped": lambda h: h.images[::-1],
    "mean of two images": average_pairs,
    "uniform noise": uniform_noise,
    "phantoms": render_phantoms,
}

NEAREST = "generated~train"
# Columns of the table: heading -> metric and its unit.
COLUMNS: dict[str, tuple[MetricKey, float]] = {
    "FID, cxr": (MetricKey("fid", "cxr", POOLED, HEADLINE), 1),
    "KID, cxr, millionths": (MetricKey("kid", "cxr", POOLED, HEADLINE), 1e-6),
    "KID of NORMAL, millionths": (MetricKey("kid", "cxr", "NORMAL", HEADLINE), 1e-6),
    "precision, cxr": (MetricKey("precision", "cxr", POOLED, HEADLINE), 1),
    "recall, cxr": (MetricKey("recall", "cxr", POOLED, HEADLINE), 1),
    "coverage, cxr": (MetricKey("coverage", "cxr", POOLED, HEADLINE), 1),
    "KID, texture, thousandths": (MetricKey("kid", "texture", POOLED, HEADLINE), 1e-3),
    "finest octave, dB": (MetricKey("power", HIGHEST, "NORMAL", HEADLINE), 1),
    "rows, dB": (MetricKey("alternation", "rows", "NORMAL", HEADLINE), 1),
    "rows of 2 px, dB": (
        MetricKey("alternation", "rows of 2 px", "NORMAL", HEADLINE),
        1,
    ),
    "label accuracy": (
        MetricKey("label_accuracy", "classifier", POOLED, "generated"),
        1,
    ),
    "MS-SSIM above real": (MetricKey("ms_ssim", "pairs", "NORMAL", "generated~A+B"), 1),
    "below 1st percentile, cxr": (
        MetricKey("below_first_percentile", "cxr", POOLED, NEAREST),
        1,
    ),
    "near copies, pixels": (MetricKey("near_copies", "pixels", POOLED, NEAREST), 1),
    "exact copies": (MetricKey("exact_copies", "bytes", POOLED, NEAREST), 1),
}


def evaluate_fault(dataset: data.Dataset, fault: str, seed: int) -> dict[str, Any]:
    """One row: metrics by heading, and the verdict."""
    held_out = hold_out(dataset, seed)
    images, classes = FAULTS[fault](held_out), len(held_out.images)
    classifier = label_classifier_cache.load_or_fit(held_out.real.train, classes)
    result = evaluator.evaluate(
        images.reshape(-1, *images.shape[2:]),
        np.repeat(np.arange(classes), images.shape[1]),
        held_out.real,
        spaces=[feature_spaces.open_space(space) for space in SPACES],
        classifier=classifier,
        seed=seed,
    )
    metrics = {
        heading: result.estimates[key].value / unit
        for heading, (key, unit) in COLUMNS.items()
    }
    return {"metrics": metrics, "verdict": result.verdict.removeprefix("verdict: ")}


def table(faults: dict[str, list[dict[str, Any]]]) -> str:
    """{fault: its row of each seed} -> Markdown: mean and standard deviation."""
    lines = []
    for fault, rows in faults.items():
        line = [fault]
        for heading in COLUMNS:
            values = [row["metrics"][heading] for row in rows]
            line.append(f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.2g}")
        lines.append([*line, " / ".join(sorted({row["verdict"] for row in rows}))])
    return command_line.table(["fault", *COLUMNS, "verdict"], lines)


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Evaluates the missing rows."""
    dataset = data.load(values.dataset, values.resolution, split_seed=0)
    faults: dict[str, list[dict[str, Any]]] = {fault: [] for fault in FAULTS}
    jobs = [*itertools.product(range(values.seeds), FAULTS)]
    for seed, fault in tqdm.tqdm(jobs, "faults", disable=None):
        path = pathlib.Path(values.workdir, str(seed), f"{fault}.json")
        if not path.exists():
            row = evaluate_fault(dataset, fault, seed)
            command_line.write_json(path, row)
        faults[fault].append(json.loads(path.read_text(encoding="utf-8")))
    return {"images_per_class": PER_CLASS, "faults": faults}, table(faults)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string(
        "dataset", None, "Real images, written as config.dataset.", **own
    )
    flags.DEFINE_string(
        "workdir", "runs/metric_sensitivity", "Folder of finished rows.", **own
    )
    flags.DEFINE_integer("seeds", 3, "Repetitions with other patients.", 2, **own)
    flags.DEFINE_integer("resolution", 64, "Pixels per side.", 32, **own)
    flags.mark_flag_as_required("dataset", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
