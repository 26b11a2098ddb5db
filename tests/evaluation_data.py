"""Phantoms used as generated images, and functions that add faults to them."""

import functools
import tempfile

import numpy as np
import pytest
from scipy import ndimage

from cxr_gan import data
from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation import evaluator, image_sets, per_set_metrics
from cxr_gan.evaluation.metrics import feature_spaces, label_classifier

SPEC = "phantom:280"
NEW_SEED = 7  # seed of phantoms that are not in any data set


@functools.cache
def real() -> image_sets.ReferenceSplits:
    """The real data set: phantoms of 64 px."""
    with tempfile.TemporaryDirectory() as folder:
        return image_sets.split_reference(
            data.load(SPEC, 64, split_seed=0, cache_dir=folder)
        )


@functools.cache
def classifier(steps: int = 20) -> dict:
    """Trained on half B; unreliable after 20 steps, reliable after 900."""
    reference = real()
    half_b = reference.train.take(~reference.in_a)
    return label_classifier.fit(half_b.images, half_b.labels, 2, 0, steps=steps)


@functools.cache
def new_phantoms(n: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Images of a perfect generator: uint8 [n, 64, 64, 1], labels int32 [n]."""
    return renderer.render_many(NEW_SEED, range(n), 64)


def evaluate(
    images: np.ndarray, labels: np.ndarray, **overrides
) -> evaluator.EvaluationResult:
    arguments = {
        "spaces": [feature_spaces.open_space("cxr")],
        "classifier": classifier(),
        "seed": 0,
        **overrides,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(per_set_metrics, "PAIRS", 400)  # for speed
        return evaluator.evaluate(images, labels, real(), **arguments)


def add_noise(images: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(images.shape)
    return np.clip(np.rint(images + deviation * noise), 0, 255).astype(np.uint8)


def repeat_few(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Repeats five images of each class."""
    rows = np.arange(len(images)) % 10
    return images[rows], labels[rows]


def copy_training(
    images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces a tenth by training images, shifted by one pixel and with noise."""
    train, n = real().train, len(images) // 10
    copies = add_noise(np.roll(train.images[:n], 1, 2), 1)
    return (
        np.concatenate([copies, images[n:]]),
        np.concatenate([train.labels[:n], labels[n:]]),
    )


def blur(images: np.ndarray) -> np.ndarray:
    blurred = ndimage.gaussian_filter(images.astype(float), (0, 1, 1, 0))
    return np.rint(blurred).astype(np.uint8)


# Fault in the verdict -> (images, labels) without faults -> the same with that fault.
FAULTS = {
    "labels swapped": lambda x, y: (x, 1 - y),
    "few images repeated": repeat_few,
    "training images copied": copy_training,
    "texture too smooth": lambda x, y: (blur(x), y),
    "texture too noisy": lambda x, y: (add_noise(x, 12), y),
    "far from real images": lambda x, y: (x[:, ::-1].copy(), y),
}
