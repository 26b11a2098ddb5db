"""Measurements of each image by itself; images are read block by block."""

import dataclasses

import numpy as np
from PIL import Image
from scipy import ndimage

from cxr_gan.data import progress, quality
from cxr_gan.data.dataset import blocks

SIDE = 64  # px, that images are reduced to before their frame is taken
FRAME = 4  # px of it on each side
PERCENTILES = 5, 25, 50, 75, 95
THUMBNAIL = 32  # px, side of the images that are searched for copies
BLUR = 1.0  # thumbnail px, sigma of what is subtracted from them
MARGIN = 4  # thumbnail px
CLIP = 1.4826  # of the median of magnitudes: one standard deviation of normal values
MIN_LIMIT = 0.25  # grey levels
MIN_DEVIATION = 0.5  # grey levels, standard deviation: about that of rounding
FLAT = 2  # grey levels, largest standard deviation within a line of a border
TEXT_ZONE = 0.25  # width of the zone that is searched for text, of the side
TEXT_HEIGHT = 0.015, 0.1  # height of a character, of the side
TEXT_CONTRAST = 90  # grey levels between a character and what surrounds it
MIN_TEXT_SIDE = 128  # px; below it, characters cannot be distinguished from ribs


@dataclasses.dataclass(frozen=True, eq=False)
class Measurements:
    """Of n images, in order."""

    quality: list[quality.Measurement]
    intensity: np.ndarray  # float32 [n, 7]: mean, standard deviation, PERCENTILES
    frame: np.ndarray  # uint8 [n, 960]: the outer pixels of the reduced image
    details: np.ndarray  # float32 [n, 576]: see `_details`
    border: np.ndarray  # float32 [n]: flat lines at the edges, of the side
    characters: np.ndarray  # int64 [n]: burnt-in characters


def measure(images: np.ndarray) -> Measurements:
    """Measures images, uint8 [n, s, s, 1], which may be memory-mapped."""
    every = (image[..., 0] for block in blocks(images) for image in block)
    results = ((1, _measure(image)) for image in every)
    found = list(progress.track(results, len(images), "Auditing"))
    known, intensity, frame, details, border, characters = zip(*found, strict=True)
    return Measurements(
        list(known),
        np.array(intensity, np.float32),
        np.array(frame),
        np.array(details),
        np.array(border, np.float32),
        np.array(characters),
    )


def _measure(image: np.ndarray) -> tuple[object, ...]:
    """One entry of each field of `Measurements`, of uint8 [s, s]."""
    picture = Image.fromarray(image)
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))
    inside = np.zeros(small.shape, bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    percentiles = np.percentile(image, PERCENTILES)
    return (
        quality.measure(image),
        [image.mean(), image.std(), *percentiles],
        small[~inside],
        _details(picture),
        _border(image),
        _count_characters(image),
    )


def _details(picture: Image.Image) -> np.ndarray:
    """A high-pass filtered thumbnail without its margin, of norm 1.

    All chest radiographs have smooth shapes in common; many have the same frame or
    marker at the edge, whose sharp edges would outweigh everything else. The margin is
    therefore left out, and large values are clipped. The norm of an image without
    details is less than 1.
    """
    size = (THUMBNAIL, THUMBNAIL)
    small = picture.convert("F").resize(size, Image.Resampling.BOX)
    thumbnail = np.asarray(small)
    details = thumbnail - ndimage.gaussian_filter(thumbnail, BLUR)
    details = details[MARGIN:-MARGIN, MARGIN:-MARGIN]
    limit = MIN_LIMIT + CLIP * np.median(np.abs(details))
    details = details.clip(-limit, limit)
    details -= details.mean()
    min_norm = MIN_DEVIATION * len(details)
    return (details / max(min_norm, np.linalg.norm(details))).ravel()


def _border(image: np.ndarray) -> float:
    """Largest number of flat lines at an edge, as a fraction of the side."""
    widest = 0
    for turned in (image, image[::-1], image.T, image.T[::-1]):
        lines = turned[: len(turned) // 2]
        is_flat = lines.std(1) <= FLAT
        widest = max(widest, len(lines) if is_flat.all() else int(is_flat.argmin()))
    return widest / len(image)


def _count_characters(image: np.ndarray) -> int:
    """Burnt-in characters near the edges: small, bright, and sharp."""
    side = len(image)
    if side < MIN_TEXT_SIDE:
        return 0
    low, high = (height * side for height in TEXT_HEIGHT)
    stroke = 2 * round(low) + 1
    stands_out = image - ndimage.grey_opening(image, (stroke, stroke))
    parts, _ = ndimage.label(stands_out > TEXT_CONTRAST)
    count = 0
    edge = TEXT_ZONE * side
    for rows, columns in ndimage.find_objects(parts):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        is_beside = not (
            edge < (rows.start + rows.stop) / 2 < side - edge
            and edge < (columns.start + columns.stop) / 2 < side - edge
        )
        count += is_beside and low <= height <= high and width <= 1.5 * high
    return count
