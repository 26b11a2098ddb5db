"""One picture of any size -> one square grey image; the one place that calls Pillow."""

import dataclasses
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import tqdm
from PIL import Image, UnidentifiedImageError

# JPEG leaves small differences between the channels of a grey picture, and a coloured
# stamp or side marker does not make a radiograph a colour picture.
GREY_SPREAD = 16  # largest difference between channels that passes as grey, of 255
COLOUR_SHARE = 0.01  # share of pixels that may differ by more

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Square:
    """A picture after crop and resize, before its 16 bits, if any, become 8."""

    pixels: np.ndarray  # uint8 [s, s], or float32 [s, s] in [0, peak] if 16-bit
    peak: int  # largest value before the resize if 16-bit, else 0
    side: int  # shorter side of the original, px


def read_file(path: Path, resolution: int) -> Square:
    """Decodes one image file.

    Raises:
        ValueError: naming the file, if it is unreadable, empty, no image, damaged,
            larger than Pillow's limit against decompression bombs, or in colour.
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
            f"{path}: not an image, whatever its name says; replace it or delete it"
        ) from None
    except PermissionError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); see to its permissions"
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too large: {error}; make it smaller") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
    ) as error:
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


def to_square(pixels: np.ndarray, resolution: int, where: str) -> Square:
    """Centre-crops to a square and resizes with Lanczos, antialiased when reducing.

    Args:
        pixels: uint8, or 16-bit of any integer type, [h, w], [h, w, 1] or [h, w, 3].
        resolution: side of the result in px.
        where: names the picture in errors.

    Raises:
        ValueError: if it is in colour (see GREY_SPREAD) or holds values beyond 16 bits.
    """
    pixels = _grey(pixels, where)
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = pixels[top : top + side, left : left + side]
    peak = 0
    if pixels.dtype != np.uint8:
        peak = int(pixels.max())
        if pixels.min() < 0 or peak > 65535:
            raise ValueError(
                f"{where}: values beyond 16 bits; save it as 8- or 16-bit grey"
            )
        pixels = pixels.astype(np.float32)
    if side != resolution:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        size = (resolution, resolution)
        pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    if peak:
        pixels = pixels.clip(0, peak)  # Lanczos overshoots beside hard edges
    return Square(pixels, peak, side)


def _grey(pixels: np.ndarray, where: str) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    red, green, blue = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return green
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    share = float(np.mean(high - low > GREY_SPREAD))
    if share > COLOUR_SHARE:
        raise ValueError(
            f"{where}: a colour picture, not a grey radiograph ({share:.0%} of its "
            f"pixels differ between channels by more than {GREY_SPREAD}); convert it "
            "or delete it"
        )
    return np.asarray(Image.fromarray(pixels).convert("L"))


def decode_all(
    decode: Callable[[Item], Square], items: Sequence[Item], title: str
) -> list[Square]:
    """Decodes each item, in order, in threads (Pillow frees the interpreter's lock).

    A progress bar appears on stderr if that is a terminal and it takes over 2 s.
    """
    bar = tqdm.tqdm(total=len(items), desc=title, unit="img", disable=None, delay=2)
    with bar, ThreadPoolExecutor() as pool:
        squares = []
        for square in pool.map(decode, items):
            squares.append(square)
            bar.update()
        return squares


def to_uint8(squares: Sequence[Square]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Stacks to uint8 [n, s, s, 1], with notes on what a user should know.

    16-bit pictures are divided by the range of the fewest bits that hold all of them
    together: detectors often store 10 to 14 bits in 16, and one scale for the whole set
    keeps the exposures comparable.
    """
    resolution = squares[0].pixels.shape[0]
    notes = []
    deep = max(square.peak for square in squares)
    bits = max(8, deep.bit_length())
    if deep:
        count = sum(square.peak > 0 for square in squares)
        notes.append(
            f"{count} 16-bit images hold {bits}-bit values and were divided by "
            f"{2**bits - 1} to become 8-bit"
        )
    small = [square.side for square in squares if square.side < resolution]
    if small:
        notes.append(
            f"{len(small)} of {len(squares)} images are smaller than {resolution} px "
            f"(the smallest: {min(small)} px) and were enlarged; they hold no "
            "detail at that size"
        )
    images = np.empty((len(squares), resolution, resolution, 1), np.uint8)
    for image, square in zip(images, squares, strict=True):
        pixels = square.pixels
        if pixels.dtype != np.uint8:
            pixels = np.rint(pixels * (255 / (2**bits - 1)))
        image[:, :, 0] = pixels
    return images, tuple(notes)
