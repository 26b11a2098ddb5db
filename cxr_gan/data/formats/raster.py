"""Pictures that are no DICOM files: JPEG, PNG, TIFF and others that Pillow opens.

Transparency is ignored: pixels keep the values that they have below it.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from cxr_gan.data.formats import deep_jpeg, file_errors
from cxr_gan.data.listing import Header, LeftOutError

# Pillow's name of a format -> ours. Others are not read, even if Pillow opens them.
KINDS = {
    "BMP": "BMP",
    "GIF": "GIF",
    "JPEG": "JPEG",
    "JPEG2000": "JPEG 2000",
    "MPO": "JPEG",  # with a preview behind the picture
    "PNG": "PNG",
    "PPM": "PPM",
    "TIFF": "TIFF",
    "WEBP": "WebP",
}
# Pillow scales samples of more than 8 bits to 16 bits by the depth in the header.
SCALED_TO_16 = ("JPEG2000", "PPM")
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_PLANES = 258, 262, 284  # tags
TIFF_WHITE_IS_ZERO = 0  # value of TIFF_PHOTOMETRIC
TIFF_SEPARATE = 2  # value of TIFF_PLANES
# EXIF orientation -> how to turn pixels [h, w] or [h, w, 3] upright.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


def inspect(path: Path) -> Header:
    """Reads the header of a picture, not its pixels.

    Raises:
        LeftOutError: it has several pages or frames.
        ValueError: it is empty, unreadable, damaged, not an image, or larger than
            Pillow's limit against decompression bombs; names the file.
        ImportError: no installed package decodes it; names the package.
    """
    with file_errors.readable(path), _open(path) as image:
        if isinstance(image, deep_jpeg.Frame):
            deep_jpeg.require_decoder(path, image)
            turned = image.orientation in TURNS
            return Header("JPEG", image.height, image.width, image.bits, turned)
        # The method of the base class does not decode PNG files.
        orientation = deep_jpeg.orientation(lambda: Image.Image.getexif(image))
        width, height = image.size
        if image.format == "TIFF" and orientation >= 5:  # Pillow gives the turned size
            width, height = height, width
        kind = KINDS[str(image.format)]
        return Header(kind, height, width, _bits(image), turned=orientation in TURNS)


def read_pixels(path: Path) -> tuple[np.ndarray, bool]:
    """Decodes a picture and turns it upright, as its EXIF orientation says.

    Returns:
        The pixels [h, w] or [h, w, 3]: uint8; float32 in [0, 1] where the file states
        the range of more than 8 bits; uint16 where it does not. And whether white is
        their lowest value; only of uint16.

    Raises:
        LeftOutError, ValueError, ImportError: as `inspect`; ValueError also for values
            that are no grey values of at most 16 bits.
    """
    with file_errors.readable(path), _open(path) as image:
        if isinstance(image, deep_jpeg.Frame):
            pixels = deep_jpeg.decode(path, path.read_bytes(), image)
            return TURNS.get(image.orientation, np.asarray)(pixels), False
        pixels, is_inverted = _decode(path, image)
        if image.format != "TIFF":  # Pillow turns TIFF files itself
            orientation = deep_jpeg.orientation(image.getexif)
            pixels = TURNS.get(orientation, np.asarray)(pixels)
        return pixels, is_inverted


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Image.Image | deep_jpeg.Frame]:
    """The opened picture, or the header of a JPEG file that Pillow cannot open."""
    # Opened here, because Pillow maps files that it opens by name into memory, and then
    # reads TIFF files with an orientation of 5 to 8 in rows of the wrong length.
    with path.open("rb") as file:
        try:
            image = Image.open(file)
        except UnidentifiedImageError as error:
            yield _open_deep_jpeg(file, error)
            return
        with image:
            if image.format not in KINDS:
                raise file_errors.RefusalError(
                    f"a file of the kind {image.format}, which is not read; save it as "
                    "PNG"
                )
            # The second frame of MPO is a preview.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise LeftOutError("several pages or frames in one file")
            yield image


def _open_deep_jpeg(file: BinaryIO, error: UnidentifiedImageError) -> deep_jpeg.Frame:
    file.seek(0)
    start = file.read(32)
    rest = file.read() if start.startswith(deep_jpeg.START) else b""
    frame = deep_jpeg.find_frame(start + rest)
    if frame is None:
        raise file_errors.unidentified(start) from error
    size = frame.height * frame.width
    if size > 2 * (Image.MAX_IMAGE_PIXELS or size):  # Pillow's limit
        raise Image.DecompressionBombError(f"{size} pixels") from error
    return frame


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of the samples in the file, such as "RGB;16B"; "" if unknown."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _bits(image: Image.Image) -> int:
    """Bits of a sample."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TIFF_BITS, (1,))
        return int(bits[0])
    return 16 if image.mode.startswith("I") or ";16" in _raw_mode(image) else 8


def _decode(path: Path, image: Image.Image) -> tuple[np.ndarray, bool]:
    """As `read_pixels`, not turned yet unless it is a TIFF file."""
    if not image.mode.startswith(("I", "F")):
        if _bits(image) > 8:
            return _read_16_bit_samples(path, image), False
        image.info.pop("transparency", None)  # of a palette; Pillow would warn of it
        is_grey = image.mode in ("1", "L", "LA", "La")
        return np.asarray(image.convert("L" if is_grey else "RGB")), False
    white = 65535 if image.format in SCALED_TO_16 else 0
    is_inverted = False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        white = 4095 if _bits(image) == 12 else 0
        # Pillow inverts such pixels only if they have 8 bits or fewer.
        is_inverted = image.tag_v2.get(TIFF_PHOTOMETRIC) == TIFF_WHITE_IS_ZERO
        # libtiff swaps bytes of big-endian files, which Pillow only knows of "I;16".
        if image.mode in ("I", "F") and image.tile[0].codec_name == "libtiff":
            _replace_raw_mode(image, _raw_mode(image).replace("B", "N"))
    pixels = _grey_values(np.asarray(image), white)
    if is_inverted and pixels.dtype == np.float32:
        return 1 - pixels, False
    return pixels, is_inverted


def _grey_values(values: np.ndarray, white: int) -> np.ndarray:
    """[h, w] -> float32 in [0, 1], or uint16 if white, the highest value, is 0."""
    if not np.isfinite(values).all():
        raise file_errors.RefusalError(
            "some of its values are NaN or infinite; replace them"
        )
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return values.astype(np.float32)
    if low < 0 or high > 65535:
        raise file_errors.RefusalError(
            f"its values are from {low} to {high}; they must be from 0 to 65535, or "
            "from 0 to 1 if they are floats: shift or divide all images alike"
        )
    if white:
        return values.astype(np.float32) / np.float32(white)
    if values.dtype.kind == "f":
        values = np.rint(values)
    return values.astype(np.uint16)


def _read_16_bit_samples(path: Path, image: Image.Image) -> np.ndarray:
    """uint16 [h, w] or [h, w, 3]: the samples of which Pillow keeps the high bytes.

    The low bytes are the high bytes of samples with the other byte order.
    """
    samples, _, order = _raw_mode(image).partition(";16")
    if samples == "LA":  # grey high, grey low, alpha high, alpha low
        both = _decode_as(path, "RGBA", "RGBA").astype(np.uint16)
        return both[..., 0] << 8 | both[..., 1]
    has_planes = isinstance(image, TiffImagePlugin.TiffImageFile) and (
        image.tag_v2.get(TIFF_PLANES) == TIFF_SEPARATE
    )
    if samples not in ("RGB", "RGBA", "RGBX") or has_planes:
        raise file_errors.RefusalError(
            "a 16-bit image with channels other than grey, grey and alpha, RGB or "
            "RGBA, or with separate planes; save it as 16-bit grey PNG"
        )
    mode = samples.replace("X", "A")
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    other = "B" if order == "L" else "L"
    high = _decode_as(path, mode, f"{mode};16{order}").astype(np.uint16)
    low = _decode_as(path, mode, f"{mode};16{other}")
    return (high << 8 | low)[..., :3]


def _decode_as(path: Path, mode: str, raw_mode: str) -> np.ndarray:
    """uint8 [h, w, c]: the samples of a file, taken for those of another mode."""
    with path.open("rb") as file, Image.open(file) as image:
        image._mode = mode
        _replace_raw_mode(image, raw_mode)
        return np.asarray(image)


def _replace_raw_mode(image: ImageFile.ImageFile, raw_mode: str) -> None:
    """Makes Pillow take the samples in the file for others; before it decodes them."""
    image.tile = [
        tile._replace(
            args=(raw_mode, *tile.args[1:])
            if isinstance(tile.args, tuple)
            else raw_mode
        )
        for tile in image.tile
    ]
