"""Phantoms in place of generated images, and what can be wrong with them."""

import functools
import tempfile

import numpy as np
from scipy import ndimage

from cxr_gan import data, evaluation
from cxr_gan.data import phantom
from cxr_gan.metrics import features, fidelity

SPEC = "phantom:280"
FRESH = 7  # seed of phantoms that are in no data set


@functools.cache
def real() -> evaluation.Real:
    with tempfile.TemporaryDirectory() as folder:
        return evaluation.divide(data.load(SPEC, 64, split_seed=0, cache_dir=folder))


@functools.cache
def judge(steps: int = 100) -> fidelity.Judge:
    """Taught on half B for a short while: it knows little; 900 steps know enough."""
    of = real()
    half = of.train.take(~of.in_a)
    return fidelity.fit(half.images, half.labels, 2, 0, steps=steps)


@functools.cache
def fresh(n: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Images as good as can be: uint8 [n, 64, 64, 1], int32 [n]."""
    return phantom.render_many(FRESH, range(n), 64)


def evaluate(images: np.ndarray, labels: np.ndarray, **other) -> evaluation.Findings:
    given = {"spaces": [features.space("cxr")], "judge": judge(), "seed": 0, **other}
    return evaluation.evaluate(images, labels, real(), **given)


def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(images.shape)
    return np.clip(np.rint(images + deviation * noise), 0, 255).astype(np.uint8)


def few(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Five of each class, again and again."""
    which = np.arange(len(images)) % 10
    return images[which], labels[which]


def copied(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A tenth is of training, moved by a pixel and grained."""
    train, n = real().train, len(images) // 10
    moved = noisy(np.roll(train.images[:n], 1, 2), 1)
    return (
        np.concatenate([moved, images[n:]]),
        np.concatenate([train.labels[:n], labels[n:]]),
    )


def blurred(images: np.ndarray) -> np.ndarray:
    soft = ndimage.gaussian_filter(images.astype(float), (0, 1, 1, 0))
    return np.rint(soft).astype(np.uint8)


# Words of the verdict -> what has that fault, from images and labels without one.
FAULTS = {
    "labels swapped": lambda x, y: (x, 1 - y),
    "few images repeated": few,
    "training images copied": copied,
    "texture too smooth": lambda x, y: (blurred(x), y),
    "texture too noisy": lambda x, y: (noisy(x, 12), y),
    "far from real images": lambda x, y: (x[:, ::-1].copy(), y),
}
