"""Checks sets of images and divides them into batches, which bound memory use."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

BATCH = 16  # images; on CPUs, the activations of so few stay in the cache


def map_batches(
    function: Callable[[np.ndarray], Any],
    images: np.ndarray,
    batch_size: int = BATCH,
) -> np.ndarray:
    """Concatenated results of `function` on batches of images: [n, ...].

    All batches have one size, so `function` compiles once.

    Args:
        function: maps uint8 [batch_size, s, s, 1] to an array [batch_size, ...].
        images: uint8 [n, s, s, 1]. May be a memory map: one batch is read at a time.
        batch_size: images in each call. The last batch is padded by repeating its own
            images; the results of the padding are dropped.

    Raises:
        TypeError, ValueError: as `check_images`.
    """
    check_images(images)
    results = []
    for block in blocks(len(images), batch_size):
        batch = np.asarray(images[block])
        padded = np.resize(batch, (batch_size, *batch.shape[1:]))
        results.append(np.asarray(function(padded))[: len(batch)])
    return np.concatenate(results)


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices that divide n rows into blocks of `size`; the last one may be smaller."""
    return (slice(start, start + size) for start in range(0, n, size))


def check_images(images: np.ndarray, min_size: int = 1) -> None:
    """Checks that images are uint8 [n, s, s, 1], as `data` loads them.

    Raises:
        TypeError: images are not uint8.
        ValueError: the shape is not [n, s, s, 1], n is 0, or s is below `min_size`.
    """
    size = images.shape[1] if images.ndim == 4 else 0
    if not size or images.shape != (len(images), size, size, 1):
        raise ValueError(
            f"images have shape {list(images.shape)}; must be [n, s, s, 1]: square, "
            "one grey channel"
        )
    if images.dtype != np.uint8:
        raise TypeError(
            f"images are {images.dtype}; use uint8 from 0 to 255, as stored in files"
        )
    if not len(images):
        raise ValueError("there are no images (n = 0); give at least one")
    if size < min_size:
        raise ValueError(f"images have {size} px; they need {min_size} or more")
