"""JPEG files that Pillow cannot decode: 12-bit ones, and lossless ones beyond 8 bits.

imagecodecs, of the extra `dicom`, decodes them.
"""

import dataclasses
import functools
import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # EXIF tag
START, END = b"\xff\xd8", b"\xff\xd9"
NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers of tables among those of frames, C0 to CF


@dataclasses.dataclass(frozen=True)
class Frame:
    """What the header of a JPEG file says."""

    bits: int  # of a sample
    height: int
    width: int
    orientation: int  # of the EXIF data; 1 if there is none


def orientation(read_exif: Callable[[], Image.Exif]) -> int:
    """The orientation in EXIF data, 1 to 8; 1 if there is none, or if it is damaged.

    Viewers do the same: damaged EXIF data do not concern the pixels.
    """
    try:
        found = int(read_exif().get(ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1
    return found if 1 <= found <= 8 else 1


def find_frame(contents: bytes) -> Frame | None:
    """The header of a JPEG file with more than 8 bits; None for any other file.

    Source: ITU-T T.81, section B.2.
    """
    if not contents.startswith(START):
        return None
    turn = 1
    position = 2
    while contents[position : position + 1] == b"\xff":
        marker = contents[position + 1 : position + 2]
        length = int.from_bytes(contents[position + 2 : position + 4])
        segment = contents[position + 4 : position + 2 + length]
        if marker == b"\xe1" and segment.startswith(b"Exif\0\0"):
            turn = orientation(functools.partial(_load_exif, segment))
        if marker and 0xC0 <= marker[0] <= 0xCF and marker[0] not in NO_FRAME:
            bits, size = segment[:1], segment[1:5]
            if len(size) < 4 or bits[0] <= 8:
                return None
            height, width = int.from_bytes(size[:2]), int.from_bytes(size[2:])
            return Frame(bits[0], height, width, turn)
        position += 2 + length
    return None


def _load_exif(segment: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(segment)
    return exif


def require_decoder(path: Path, frame: Frame) -> Any:
    """The module imagecodecs.

    Raises:
        ImportError: it is not installed; names the package.
    """
    if importlib.util.find_spec("imagecodecs") is None:
        raise ImportError(
            f"{path}: a JPEG file of {frame.bits} bits, which Pillow cannot decode; "
            "type: pip install imagecodecs"
        )
    return importlib.import_module("imagecodecs")


def decode(path: Path, contents: bytes, frame: Frame) -> np.ndarray:
    """Decodes the file of this header.

    Returns:
        float32 [h, w] or [h, w, 3] in [0, 1]; uint16 if the header says 16 bits,
        because not all of them need to be in use.

    Raises:
        ImportError: see `require_decoder`.
        ValueError: it is truncated or damaged.
    """
    codec = require_decoder(path, frame)
    # imagecodecs fills up truncated files without an error. Writers may pad the end.
    if not contents.rstrip(b"\0\xff").endswith(END[1:]):
        raise ValueError("image file is truncated")
    try:
        pixels: np.ndarray = codec.jpeg_decode(contents)
    except RuntimeError as error:  # all errors of imagecodecs are
        raise ValueError(str(error)) from error
    if frame.bits == 16:
        return pixels
    return pixels.astype(np.float32) / np.float32(2**frame.bits - 1)
