"""Makes square 8-bit images of pixels of any size, depth and channels, with Pillow.

Pixels with more than 8 bits whose depth is unknown are scaled in two steps, because the
depth is agreed over all images of a source: `to_square`, then `agree_depths` and
`to_uint8`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from PIL import Image

from cxr_gan.data import progress
from cxr_gan.data.dataset import ImageSet, RawSplits
from cxr_gan.data.listing import LeftOutError

# An image counts as grey despite small differences between its channels, which JPEG
# leaves, and despite a small coloured stamp or side marker.
MAX_CHANNEL_DIFFERENCE = 16  # between the channels of a grey pixel, of 255
MAX_COLOUR_FRACTION = 0.01  # of the pixels may differ by more

DEPTHS = (8, 10, 12, 14, 16)  # bits of a grey value that detectors use
MAX_BEYOND = 0.001  # of the pixels may exceed the level of an image: dead pixels, marks
MIN_DEPTH_FRACTION = 0.05  # of the deep images have the depth of a detector
# Pillow first reduces an image by an integer factor with a box filter, while it stays
# at least this many times larger than the result. Lanczos then takes a third of the
# time. On 24 radiographs, at most 1 % of the pixels of 256 px change by more than 1.
REDUCING_GAP = 3.0
NEAR = 1.25  # levels whose quotient is below this can be of one detector

Item = TypeVar("Item")
Decoded = TypeVar("Decoded")


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """An image after crop and resize, before its values become 8-bit.

    `level` is 0 for final pixels. Otherwise it is the smallest grey value that at most
    MAX_BEYOND of the pixels of the cropped square exceed, before the resize.
    """

    pixels: np.ndarray  # uint8 [s, s], or float32 [s, s] as stored if level > 0
    level: int
    side: int  # shorter side of the original after the crop, px
    inverted: bool = False  # whether white is the lowest value; only if level > 0

    @property
    def depth(self) -> int:
        """The smallest of DEPTHS that holds the level."""
        return _depth(self.level)


def to_square(
    pixels: np.ndarray,
    resolution: int,
    where: str,
    aspect: float = 1.0,
    inverted: bool = False,
) -> DecodedImage:
    """Crops the central square and resizes it with Lanczos, antialiased.

    Args:
        pixels: [h, w], [h, w, 1] or [h, w, 3]: uint8; or integers in 0..65535 that use
            an unknown number of bits; or floats in [0, 1].
        resolution: height and width of the result in px.
        where: names the image in errors.
        aspect: height of a pixel, divided by its width.
        inverted: whether white is the lowest value of integers that are not uint8.

    Raises:
        LeftOutError: the image is in colour (see MAX_CHANNEL_DIFFERENCE).
        ValueError: it has no pixels, or values beyond the ranges above.
    """
    pixels = _crop(_to_grey(_check_range(pixels, where)), aspect)
    side = min(pixels.shape)
    level = 0
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32) * np.float32(255)
    elif pixels.dtype != np.uint8:
        level = _level(pixels)
        # Lanczos would spread the few values beyond, such as a dead pixel.
        pixels = pixels.clip(0, 2 ** _depth(level) - 1).astype(np.float32)
    if pixels.shape != (resolution, resolution):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        size = (resolution, resolution)
        resized = image.resize(
            size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP
        )
        pixels = np.asarray(resized)
    if not level and pixels.dtype != np.uint8:
        pixels = np.rint(pixels.clip(0, 255)).astype(np.uint8)
    return DecodedImage(pixels, level, side, inverted and level > 0)


def _check_range(pixels: np.ndarray, where: str) -> np.ndarray:
    if pixels.size == 0:
        raise ValueError(f"{where}: has no pixels, {list(pixels.shape)}; remove it")
    if pixels.dtype == np.uint8:
        return pixels
    low, high = pixels.min(), pixels.max()
    is_float = pixels.dtype.kind == "f"
    limit = 1 if is_float else 65535
    if not (low >= 0 and high <= limit):  # also if they are NaN
        raise ValueError(
            f"{where}: has values from {low} to {high}; {pixels.dtype} must be from "
            f"0 to {limit}, without NaN"
        )
    return pixels if is_float else pixels.astype(np.uint16)


def _crop(pixels: np.ndarray, aspect: float) -> np.ndarray:
    """The central square, by the size of the pixels on the detector."""
    height, width = pixels.shape
    rows, columns = height, width
    if height * aspect > width:
        rows = max(1, round(width / aspect))
    else:
        columns = max(1, round(height * aspect))
    top, left = (height - rows) // 2, (width - columns) // 2
    return pixels[top : top + rows, left : left + columns]


def _to_grey(pixels: np.ndarray) -> np.ndarray:
    """[h, w], [h, w, 1] or [h, w, 3] -> [h, w]; LeftOutError if it is in colour."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    red, green, blue = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return green
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    white = 255.0
    if pixels.dtype != np.uint8:
        is_float = pixels.dtype.kind == "f"
        white = 1.0 if is_float else 2.0 ** _depth(_level(high)) - 1
    fraction = np.mean(high - low > MAX_CHANNEL_DIFFERENCE / 255 * white)
    if fraction > MAX_COLOUR_FRACTION:
        raise LeftOutError("in colour")
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).convert("L"))
    # ITU-R BT.601 luma, as Pillow has it.
    grey = pixels.astype(np.float64) @ [0.299, 0.587, 0.114]
    return grey if pixels.dtype.kind == "f" else np.rint(grey).astype(np.uint16)


def _level(pixels: np.ndarray) -> int:
    """uint16 [h, w] -> the smallest value, at least 1, that few pixels exceed.

    Few are MAX_BEYOND of them, and always one.
    """
    few = max(1, int(MAX_BEYOND * pixels.size)) if pixels.size > 1 else 0
    index = pixels.size - 1 - few
    return max(1, int(np.partition(pixels.ravel(), index)[index]))


def _depth(level: int) -> int:
    return next(depth for depth in DEPTHS if level < 2**depth)


def agree_depths(levels: Sequence[int]) -> list[int]:
    """The bits that the values of each image of a source are scaled by.

    Neither classes nor the order of the images matter. A depth is that of a detector if
    at least MIN_DEPTH_FRACTION of the deep images, and two, have a level of that depth,
    and its upper end cuts through no other detector's levels: the images whose level
    lies above it by a factor of less than NEAR are at most a tenth of the images of
    that depth, or half of those whose level lies below it by such a factor. An image
    with the depth of a detector keeps it. Another, such as an underexposed one, takes
    the lowest one whose range, times NEAR, holds its level, and keeps its own if there
    is none. If no depth is that of a detector, because the images are very few, the
    highest one is. Values beyond the agreed depth are clipped.

    Args:
        levels: `DecodedImage.level` of each image; 0 for final pixels.

    Returns:
        One of DEPTHS for each image; 8 for final pixels.
    """
    values = np.asarray(levels, np.int64)
    own = np.array([_depth(level) for level in levels], np.int64)
    deep = values > 0
    detectors = []
    for depth in DEPTHS:
        end = 2**depth
        count = np.sum(deep & (own == depth))
        below = np.sum(deep & (values * NEAR > end) & (values < end))
        above = np.sum((values >= end) & (values < NEAR * end))
        is_common = count >= max(2, MIN_DEPTH_FRACTION * np.sum(deep))
        if is_common and above <= max(count / 10, below / 2):
            detectors.append(depth)
    if deep.any() and not detectors:
        detectors = [int(own[deep].max())]

    def agreed(level: int, depth: int) -> int:
        if level == 0 or depth in detectors:
            return depth
        return next((bits for bits in detectors if level < NEAR * 2**bits), depth)

    return [agreed(*of_image) for of_image in zip(levels, own.tolist(), strict=True)]


def to_uint8(image: DecodedImage, bits: int) -> np.ndarray:
    """uint8 [s, s]: final pixels as they are, others divided by the range of bits."""
    if image.level == 0:
        return image.pixels
    white = 2**bits - 1
    grey = np.rint(image.pixels.clip(0, white) * (255 / white)).astype(np.uint8)
    return 255 - grey if image.inverted else grey


def notes(
    depths: Sequence[int], sides: Sequence[int], resolution: int
) -> tuple[str, ...]:
    """Warnings for the user: images with more than 8 bits, and enlarged ones.

    Args:
        depths: agreed bits of each image.
        sides: `DecodedImage.side` of each image.
        resolution: height and width of the result in px.
    """
    found = [
        f"{count} 16-bit images hold {depth}-bit values and were divided by "
        f"{2**depth - 1} to become 8-bit"
        for depth in DEPTHS[1:]
        if (count := sum(other == depth for other in depths))
    ]
    small = [side for side in sides if side < resolution]
    if small:
        found.append(
            f"{len(small)} of {len(sides)} images are smaller than {resolution} px "
            f"(the smallest: {min(small)} px) and were enlarged; they have no "
            "detail at that size"
        )
    return tuple(found)


def stack(decoded: Sequence[DecodedImage]) -> tuple[np.ndarray, tuple[str, ...]]:
    """All images of a source as uint8 [n, s, s, 1], and `notes` about them."""
    depths = agree_depths([image.level for image in decoded])
    images = np.stack(
        [to_uint8(image, bits) for image, bits in zip(decoded, depths, strict=True)]
    )
    sides = [image.side for image in decoded]
    return images[..., np.newaxis], notes(depths, sides, images.shape[1])


@contextlib.contextmanager
def none_left_out(where: str) -> Iterator[None]:
    """Turns a LeftOutError into a ValueError that names the image.

    For sources of which every image is used.
    """
    try:
        yield
    except LeftOutError as reason:
        raise ValueError(
            f"{where}: {reason}; every image must be a single grey frontal radiograph: "
            "convert it or remove it"
        ) from reason


def decode_all(
    decode: Callable[[Item], Decoded], items: Sequence[Item], title: str
) -> list[Decoded]:
    """Decodes every item, in order, in threads (Pillow releases the GIL).

    The progress is shown as `progress.track` does.
    """
    with ThreadPoolExecutor() as pool:
        decoded = ((1, result) for result in pool.map(decode, items))
        return list(progress.track(decoded, len(items), title))


def to_splits(
    decoded: Sequence[DecodedImage],
    images: Sequence[tuple[int, str]],
    num_train: int,
    class_names: tuple[str, ...],
) -> RawSplits:
    """Both splits of a dataset; the depths are agreed over both.

    Args:
        decoded: the images of train, then those of val.
        images: (label, id) of each.
        num_train: number of images of train; the dataset has no val if it is all.
        class_names: index = label.
    """
    pixels, found = stack(decoded)
    labels = np.array([label for label, _ in images], np.int32)
    ids = tuple(id_ for _, id_ in images)

    def part(rows: slice) -> ImageSet:
        return ImageSet(pixels[rows], labels[rows], ids[rows])

    val = None if num_train == len(ids) else part(slice(num_train, None))
    return RawSplits(part(slice(num_train)), val, class_names, found)
