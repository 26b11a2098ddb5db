"""Measures which copies of training images an evaluation finds.

    python -m benchmarks.copy_sensitivity --dataset=path/to/chest_xray \
      --out=copy_sensitivity.json

Training images are altered and searched for as if they had been generated. An image
counts as found if it is nearer to a training image than all but a share `--alarms` of
the held-out images are, so by chance that share is found. The last column is of both
views together, each with half of the share. The images are of half B, because the
encoder `cxr` was trained on half A of the paediatric data set.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from absl import flags
from scipy import ndimage

from benchmarks import command_line
from cxr_gan import data
from cxr_gan.evaluation import image_sets
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.memorization import VIEWS
from cxr_gan.evaluation.metrics import (
    confidence_intervals,
    cxr_encoder,
    pixel_search,
)

DRAWS = 1000  # of an interval
FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cxr": cxr_encoder.features,
    "pixels": pixel_search.pixel_vectors,
}


def turn(images: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates about the centre."""
    return ndimage.rotate(
        images, degrees, axes=(1, 2), reshape=False, order=1, mode="nearest"
    )


def zoom(images: np.ndarray, factor: float) -> np.ndarray:
    """Enlarges the centre by `factor`; below 1, edges are repeated around the image."""
    middle = (images.shape[1] - 1) / 2
    return ndimage.affine_transform(
        images,
        [1, 1 / factor, 1 / factor, 1],
        [0, middle - middle / factor, middle - middle / factor, 0],
        order=1,
        mode="nearest",
    )


def shift(images: np.ndarray, share: float) -> np.ndarray:
    """Shifts down and to the left by this share of a side; edges are repeated."""
    pixels = share * images.shape[1]
    return ndimage.shift(images, (0, pixels, -pixels, 0), order=1, mode="nearest")


def blur(images: np.ndarray, share: float) -> np.ndarray:
    """Convolves with a Gaussian whose deviation is this share of a side."""
    sigma = share * images.shape[1]
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0))


def add_noise(images: np.ndarray, deviation: float) -> np.ndarray:
    """Adds white noise; `deviation` as a share of the range from black to white."""
    return images + np.random.default_rng(0).normal(0, deviation, images.shape)


# How copies are altered: float [n, s, s, 1] in [0, 1] -> the same. To test another way,
# add it here.
ALTERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda x: x,
    "blurred, 1/64 of a side": lambda x: blur(x, 1 / 64),
    "blurred, 1/32 of a side": lambda x: blur(x, 1 / 32),
    "shifted by 3 % of a side": lambda x: shift(x, 0.03),
    "shifted by 6 % of a side": lambda x: shift(x, 0.06),
    "turned by 3 degrees": lambda x: turn(x, 3),
    "turned by 10 degrees": lambda x: turn(x, 10),
    "enlarged by 5 %": lambda x: zoom(x, 1.05),
    "enlarged by 10 %": lambda x: zoom(x, 1.1),
    "made smaller by 10 %": lambda x: zoom(x, 1 / 1.1),
    "gamma 0.7": lambda x: x**0.7,
    "gamma 1.4": lambda x: x**1.4,
    "noise, 3 % of the range": lambda x: add_noise(x, 0.03),
    "noise, 10 % of the range": lambda x: add_noise(x, 0.1),
}


def alter(images: np.ndarray, name: str) -> np.ndarray:
    """Alters uint8 [n, s, s, 1] -> uint8 [n, s, s, 1]."""
    altered = ALTERATIONS[name](images / 255)
    return np.round(255 * altered.clip(0, 1)).astype(np.uint8)


def search(
    copies: dict[str, np.ndarray], train: ImageGroup, val: ImageGroup, alarms: float
) -> dict[str, dict[str, np.ndarray]]:
    """{alteration: {view: whether each copy is found, bool [n]}}.

    Args:
        copies: altered images of train.
        train: all training images.
        val: images of other patients.
        alarms: share of val that counts as found.
    """
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in copies}
    both: dict[str, list[np.ndarray]] = {name: [] for name in copies}
    for view, nearest in VIEWS.items():
        points = FEATURES[view](train.images)
        patients = val.patients, train.patients
        reference = nearest(FEATURES[view](val.images), points, patients=patients)
        limits = np.quantile(reference.distance, [alarms, alarms / 2])
        for name, images in tqdm.tqdm(copies.items(), view, disable=None):
            distance = nearest(FEATURES[view](images), points).distance
            found[name][view] = distance < limits[0]
            both[name].append(distance < limits[1])
    for name, views in both.items():
        found[name]["both"] = np.any(views, 0)
    return found


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Alters images and searches for them."""
    dataset = data.load(values.dataset, values.resolution, split_seed=0)
    real = image_sets.split_reference(dataset)
    groups = real.image_groups()
    rows = groups["B"].select(range(len(real.class_names)), values.count, seed=0)
    images, patients = groups["B"].images[rows], groups["B"].patients[rows]
    found = search(
        {name: alter(images, name) for name in ALTERATIONS},
        ImageGroup.from_image_set(real.train),
        groups["val"],
        values.alarms,
    )
    results: dict[str, Any] = {"alarms": values.alarms, "n": len(rows), "found": {}}
    for name, views in found.items():
        results["found"][name] = {
            view: [
                float(hits.mean()),
                *confidence_intervals.share_interval(
                    hits, patients, draws=DRAWS, seed=0
                ),
            ]
            for view, hits in views.items()
        }
    table = [
        [name, *(f"{x:.0%} ({low:.0%} to {high:.0%})" for x, low, high in views)]
        for name, shares in results["found"].items()
        for views in [shares.values()]
    ]
    return results, command_line.table(["copies", *FEATURES, "both"], table)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("dataset", None, "The data set.", **own)
    flags.DEFINE_integer("resolution", 64, "Pixels a side.", 32, **own)
    flags.DEFINE_integer("count", 250, "Images of each class.", 16, **own)
    flags.DEFINE_float("alarms", 0.01, "Share found by chance.", 0.001, 0.5, **own)
    flags.mark_flag_as_required("dataset", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
