r"""Trains a baseline on a data set and writes 2,000 images of it.

    pip install -e ".[bench]"
    python -m benchmarks.train_baseline --baseline=recipe --kimg=250 \
        --dataset=path/to/chest_xray --workdir=runs/recipe
    python -m cxr_gan.evaluate --images=runs/recipe/images.npz \
        --dataset=path/to/chest_xray --out=runs/report_recipe

Images have 64 px. Training runs on one core, in batches with equally many images of
each class, as those of cxr_gan.
"""

import itertools
import math
import pathlib
import time
from typing import Any

import numpy as np
import tqdm
from absl import flags

from benchmarks import command_line
from cxr_gan import data
from cxr_gan.data import pipeline
from cxr_gan.storage import files

NUM_IMAGES = 2_000  # equally many of each class
COMPONENTS = 200  # of the Gaussian


def fit_gaussian(
    dataset: data.Dataset, labels: np.ndarray, kimg: float, seed: int
) -> np.ndarray:
    """Samples one Gaussian of pixels for each class; images uint8 [n, 64, 64].

    Each is fitted, whatever kimg is, in the space of the first principal components. A
    generator that learns more than means and covariances must be better than this.
    """
    train, rng = dataset.train, np.random.default_rng(seed)
    images = np.empty((len(labels), *train.images.shape[1:3]), np.uint8)
    for label in range(len(dataset.class_names)):
        own, requested = train.images[train.labels == label], labels == label
        images[requested] = sample_gaussian(own, COMPONENTS, requested.sum(), rng)
    return images


def sample_gaussian(
    images: np.ndarray, components: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Samples of a Gaussian fitted to images, uint8 [n, s, s, 1] -> [count, s, s].

    At most n - 1 principal components are used; samples are clipped to grey levels.
    """
    components = min(components, len(images) - 1)
    pixels = images.reshape(len(images), -1).astype(np.float64)
    mean = pixels.mean(0)
    _, singular_values, axes = np.linalg.svd(pixels - mean, full_matrices=False)
    deviations = singular_values[:components] / np.sqrt(len(images) - 1)
    z = rng.standard_normal((count, components))
    samples = mean + (z * deviations) @ axes[:components]
    samples = np.clip(np.round(samples), 0, 255).astype(np.uint8)
    return samples.reshape(count, *images.shape[1:3])


def train_recipe(
    dataset: data.Dataset, labels: np.ndarray, kimg: float, seed: int
) -> np.ndarray:
    """Trains on 1000 kimg images; labels int32 [n] -> images uint8 [n, 64, 64]."""
    import torch  # an extra

    from benchmarks.baselines import recipe

    torch.set_num_threads(1)
    program = recipe.Recipe(len(dataset.class_names), seed)
    batches = pipeline.batches(
        dataset.train,
        num_classes=len(dataset.class_names),
        batch_size=recipe.BATCH,
        samples_per_class=(0,),
        seed=seed,
    )
    steps = math.ceil(1000 * kimg / recipe.BATCH)
    for batch in tqdm.tqdm(itertools.islice(batches, steps), "steps", steps):
        program.train_step(batch["image"], batch["label"])
    return program.generate(labels, seed=0)


# To evaluate another baseline, add it here.
TRAINABLE = {"recipe": train_recipe, "gaussian": fit_gaussian}


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Writes WORKDIR/images.npz, as `cxr_gan.evaluate --images` reads it."""
    folder = pathlib.Path(values.workdir)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; give another --workdir")
    dataset = data.load(values.dataset, 64, split_seed=0)
    labels = np.arange(NUM_IMAGES, dtype=np.int32) % len(dataset.class_names)
    start = time.process_time()
    images = TRAINABLE[values.baseline](dataset, labels, values.kimg, values.seed)
    minutes = (time.process_time() - start) / 60
    folder.mkdir(parents=True)
    with files.atomic_write(folder / "images.npz") as path, path.open("wb") as out:
        np.savez_compressed(out, images=images, labels=labels)
    return {"cpu_minutes": minutes}, f"{minutes:.1f} CPU minutes"


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_enum("baseline", None, [*TRAINABLE], "Baseline to train.", **own)
    flags.DEFINE_string("dataset", None, "Real images, as in config.dataset.", **own)
    flags.DEFINE_string("workdir", None, "New folder for the images.", **own)
    flags.DEFINE_float("kimg", 250.0, "Thousands of images to train on.", 0, **own)
    flags.DEFINE_integer("seed", 0, "Seed of weights, latents and batches.", 0, **own)
    flags.mark_flags_as_required(["baseline", "dataset", "workdir"], **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
