"""A set of images in calls of one length: one compile, flat memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

CHUNK = 16  # images at once: on CPUs, what is made of them stays in the cache


def over_chunks(
    function: Callable[[np.ndarray], Any], images: np.ndarray, chunk: int = CHUNK
) -> np.ndarray:
    """function of uint8 [chunk, s, s, 1] -> [chunk, ...], over images [n, ...].

    The last chunk is filled up with images it holds already; what comes of those is
    dropped. Images may be a memory map: no more than a chunk is read at once.

    Raises:
        TypeError, ValueError: as `check_images`.
    """
    check_images(images)
    parts = []
    for at in range(0, len(images), chunk):
        some = np.asarray(images[at : at + chunk])
        whole = np.resize(some, (chunk, *some.shape[1:]))
        parts.append(np.asarray(function(whole))[: len(some)])
    return np.concatenate(parts)


def check_images(images: np.ndarray) -> None:
    """Refuses what is not a set of square grey images as all of data hands them out.

    Raises:
        TypeError: images are not uint8.
        ValueError: their shape is not [n, s, s, 1], or there is none.
    """
    size = images.shape[1] if images.ndim == 4 else 0
    if not size or images.shape != (len(images), size, size, 1):
        raise ValueError(f"images are {list(images.shape)}; must be [n, s, s, 1]")
    if images.dtype != np.uint8:
        raise TypeError(
            f"images are {images.dtype}; use uint8 from 0 to 255, as they are saved"
        )
    if not len(images):
        raise ValueError("there are no images: give at least one")
