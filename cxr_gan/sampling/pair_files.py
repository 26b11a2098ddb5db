"""Writes the images of a latent under each class, and their differences."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cxr_gan.models import pixel_range
from cxr_gan.sampling import class_pairs, generation, image_files
from cxr_gan.sampling.generation import Generation
from cxr_gan.storage import files
from cxr_gan.storage.image_grid import make_grid

FOLDER = "differences"  # beside that of the images


class Row(NamedTuple):
    """A row of pairs.csv: one image."""

    latent: int  # its index
    class_name: str
    image: str  # file
    difference: str = ""  # file; "" for the first class
    frame: float = 0.0  # mean absolute change from the first class, pixels in [0, 1]
    centre: float = 0.0


def class_images(jobs: Sequence[Generation]) -> Iterator[np.ndarray]:
    """Yields the images of each latent under all classes; uint8 [K, s, s, 1].

    Args:
        jobs: a request for each class, with one seed.
    """
    for images in zip(*map(generation.sample_images, jobs), strict=True):
        yield pixel_range.to_uint8(np.stack(images))[..., np.newaxis]


def write(
    out: pathlib.Path, jobs: Sequence[Generation], index: int, images: np.ndarray
) -> list[Row]:
    """Writes the images of a latent, and each class minus the first.

    Args:
        out: folder to write to.
        jobs: a request for each class.
        index: of the latent.
        images: uint8 [K, s, s, 1].

    Raises:
        files.DiskError: a file cannot be written.
    """
    regions = class_pairs.regions(images.shape[1])
    rows = []
    for job, image in zip(jobs, images, strict=True):
        name, file = job.class_name(index), job.file(index, ".png")
        row = Row(index, name, f"{image_files.FOLDER}/{file}")
        path = files.with_parents(out / row.image)
        image_files.save_png(path, image[..., 0], job.origin(name))
        if job is not jobs[0]:
            row = row._replace(difference=f"{FOLDER}/{file}")
            path = files.with_parents(out / row.difference)
            content = class_pairs.difference_map(images[0], image)[..., 0]
            origin = job.origin(f"{name} minus {jobs[0].class_name(index)}")
            image_files.save_png(path, content, origin)
            change = {
                name: round(class_pairs.changes(images[:1], image[None], one).item(), 5)
                for name, one in regions.items()
            }
            row = row._replace(**change)
        rows.append(row)
    return rows


def grid(images: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A row for each class and each difference from the first; uint8 [h, w].

    Args:
        images: uint8 [n, K, s, s, 1].
        names: of the K classes.
    """
    first, *others = images.swapaxes(0, 1)
    maps = [class_pairs.difference_map(first, other) for other in others]
    titles = [f"{name} - {names[0]}" for name in names[1:]]
    return make_grid(np.stack([first, *others, *maps]), [*names, *titles])
