"""Decodes images of any size to square greyscale ones, with Pillow."""

import dataclasses
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm.contrib.concurrent import thread_map

from cxr_gan.data.dataset import ImageSet, RawSplits
from cxr_gan.storage.checksums import CORRUPT_FILE_ERRORS

# An image counts as grey despite small differences between its channels, which JPEG
# leaves, and despite a small coloured stamp or side marker.
MAX_CHANNEL_DIFFERENCE = 16  # between the channels of a grey pixel, of 255
MAX_COLOUR_FRACTION = 0.01  # of the pixels may differ by more

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """An image after crop and resize, before 16-bit values become 8-bit."""

    pixels: np.ndarray  # uint8 [s, s], or float32 [s, s] in [0, peak] if 16-bit
    peak: int  # largest value before the resize if 16-bit, else 0
    side: int  # shorter side of the original, px


def read_file(path: Path, resolution: int) -> DecodedImage:
    """Decodes one image file.

    Raises:
        ValueError: the file is unreadable, empty, not an image, damaged, larger than
            Pillow's limit against decompression bombs, or in colour; names the file.
    """
    if path.stat().st_size == 0:
        raise ValueError(
            f"{path}: the file is empty (0 bytes); copy it again or delete it"
        )
    try:
        with Image.open(path) as image:
            pixels = _pixels(image)
    except UnidentifiedImageError:
        raise ValueError(
            f"{path}: not an image, despite its file name; replace it or delete it"
        ) from None
    except PermissionError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); change its permissions"
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too large: {error}; make it smaller") from error
    except (*CORRUPT_FILE_ERRORS, SyntaxError, struct.error) as error:
        raise ValueError(
            f"{path}: truncated or damaged image ({error}); copy it again or delete it"
        ) from error
    return to_square(pixels, resolution, str(path))


def _pixels(image: Image.Image) -> np.ndarray:
    """uint8 or 16-bit [h, w], or uint8 [h, w, 3]; transparency is dropped."""
    if image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    elif image.mode != "L" and not image.mode.startswith("I"):
        image = image.convert("RGB")
    return np.asarray(image)


def to_square(pixels: np.ndarray, resolution: int, where: str) -> DecodedImage:
    """Crops the central square and resizes it with Lanczos, antialiased.

    Args:
        pixels: uint8, or 16-bit of any integer type, [h, w], [h, w, 1] or [h, w, 3].
        resolution: height and width of the result in px.
        where: names the image in errors.

    Raises:
        ValueError: the image is in colour (see MAX_CHANNEL_DIFFERENCE), or has values
            beyond 16 bits.
    """
    pixels = _to_grey(pixels, where)
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = pixels[top : top + side, left : left + side]
    peak = 0
    if pixels.dtype != np.uint8:
        peak = int(pixels.max())
        if pixels.min() < 0 or peak > 65535:
            raise ValueError(
                f"{where}: has values beyond 16 bits; save it as 8- or 16-bit grey"
            )
        pixels = pixels.astype(np.float32)
    if side != resolution:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        size = (resolution, resolution)
        pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    if peak:
        pixels = pixels.clip(0, peak)  # Lanczos overshoots beside hard edges
    return DecodedImage(pixels, peak, side)


def _to_grey(pixels: np.ndarray, where: str) -> np.ndarray:
    """[h, w], [h, w, 1] or [h, w, 3] -> [h, w]; ValueError if it is in colour."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    red, green, blue = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return green
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    fraction = float(np.mean(high - low > MAX_CHANNEL_DIFFERENCE))
    if fraction > MAX_COLOUR_FRACTION:
        raise ValueError(
            f"{where}: a colour image, not a grey radiograph ({fraction:.0%} of its "
            f"pixels differ between channels by more than {MAX_CHANNEL_DIFFERENCE}); "
            "convert it or delete it"
        )
    return np.asarray(Image.fromarray(pixels).convert("L"))


def decode_all(
    decode: Callable[[Item], DecodedImage], items: Sequence[Item], title: str
) -> list[DecodedImage]:
    """Decodes every item, in order, in threads (Pillow releases the GIL).

    A progress bar appears after 2 s if stderr is a terminal.
    """
    decoded: list[DecodedImage] = thread_map(
        decode, items, desc=title, unit="img", disable=None, delay=2
    )
    return decoded


def to_uint8(decoded: Sequence[DecodedImage]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images stacked to uint8 [n, s, s, 1], and warnings for the user.

    16-bit images are divided by the range of the fewest bits that hold all values of
    all images: detectors often store 10 to 14 bits in 16, and one scale for the entire
    dataset keeps exposures comparable.
    """
    resolution = decoded[0].pixels.shape[0]
    notes = []
    peak = max(image.peak for image in decoded)
    bits = max(8, peak.bit_length())
    if peak:
        count = sum(image.peak > 0 for image in decoded)
        notes.append(
            f"{count} 16-bit images hold {bits}-bit values and were divided by "
            f"{2**bits - 1} to become 8-bit"
        )
    small = [image.side for image in decoded if image.side < resolution]
    if small:
        notes.append(
            f"{len(small)} of {len(decoded)} images are smaller than {resolution} px "
            f"(the smallest: {min(small)} px) and were enlarged; they have no "
            "detail at that size"
        )
    images = np.empty((len(decoded), resolution, resolution, 1), np.uint8)
    for out, image in zip(images, decoded, strict=True):
        pixels = image.pixels
        if pixels.dtype != np.uint8:
            pixels = np.rint(pixels * (255 / (2**bits - 1)))
        out[:, :, 0] = pixels
    return images, tuple(notes)


def to_splits(
    decoded: Sequence[DecodedImage],
    images: Sequence[tuple[int, str]],
    num_train: int,
    class_names: tuple[str, ...],
    where: str,
    are_files: bool = False,
) -> RawSplits:
    """Both splits of a dataset; 16-bit images of both share one scale.

    Args:
        decoded: the images of train, then those of val.
        images: (label, id) of each.
        num_train: number of images of train; the dataset has no val if it is all.
        class_names: index = label.
        where: names the dataset in warnings.
        are_files: whether the ids are paths of files, relative to the dataset.
    """
    pixels, notes = to_uint8(decoded)
    labels = np.array([label for label, _ in images], np.int32)
    ids = tuple(id_ for _, id_ in images)

    def part(rows: slice) -> ImageSet:
        files = ids[rows] if are_files else ()
        return ImageSet(pixels[rows], labels[rows], ids[rows], files)

    val = None if num_train == len(ids) else part(slice(num_train, None))
    notes = tuple(f"{where}: {note}" for note in notes)
    return RawSplits(part(slice(num_train)), val, class_names, notes)
