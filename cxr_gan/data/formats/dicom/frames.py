"""Decodes the one frame of a DICOM file.

imagecodecs decodes compressed frames: it reads all of them, is fast and releases the
GIL. Without it, the decoders of pydicom that are installed are used.
"""

import contextlib
import importlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cxr_gan.data.formats.dicom.dataset import DAMAGED, INSTALL, brief, load_pydicom
from cxr_gan.data.formats.dicom.layout import BIG_ENDIAN, DEFLATED, NATIVE, Layout

JPEG = "1.2.840.10008.1.2.4"
RLE = "1.2.840.10008.1.2.5"
LOSSY_JPEG = (f"{JPEG}.50", f"{JPEG}.51")
# Transfer syntax -> the codec in imagecodecs: X and x_decode.
CODECS = {
    RLE: "DICOMRLE",
    **dict.fromkeys((*LOSSY_JPEG, f"{JPEG}.57", f"{JPEG}.70"), "JPEG8"),
    **dict.fromkeys((f"{JPEG}.80", f"{JPEG}.81"), "JPEGLS"),
    **dict.fromkeys((f"{JPEG}.90", f"{JPEG}.91"), "JPEG2K"),
    # Not HTJ2K of imagecodecs, which prints errors instead of raising them.
    **dict.fromkeys((f"{JPEG}.201", f"{JPEG}.202", f"{JPEG}.203"), "JPEG2K"),
}


def find_decoder(layout: Layout) -> Callable[..., Any] | None:
    """The function of imagecodecs that decodes a frame; None if pydicom does.

    Raises:
        ImportError: neither can; names the package to install.
        ValueError: the transfer syntax is not supported.
    """
    if layout.syntax in NATIVE:
        return None
    uid = load_pydicom().uid.UID(layout.syntax)
    if uid not in CODECS:
        raise ValueError(
            f"its transfer syntax {uid.name} is not supported; convert it, for example "
            "with gdcmconv --raw"
        )
    if layout.samples == 3 and uid in (RLE, *LOSSY_JPEG):
        return None  # pydicom knows which frames of JPEG are in YCbCr
    name = CODECS[uid]
    with contextlib.suppress(ImportError):
        imagecodecs = importlib.import_module("imagecodecs")
        if getattr(getattr(imagecodecs, name, None), "available", False):
            decoder: Callable[..., Any] = getattr(imagecodecs, f"{name.lower()}_decode")
            return decoder
    has_decoder = load_pydicom().pixels.get_decoder(uid).is_available
    if has_decoder and layout.shift == 0:  # pydicom clears the bits above `stored`
        return None
    raise ImportError(f"no decoder for its transfer syntax {uid.name}; {INSTALL}")


def decode(path: Path, layout: Layout) -> np.ndarray:
    """The frame, as uint8 or uint16.

    Returns:
        Words as stored [h, w], or RGB [h, w, 3] if the layout is of colour.

    Raises:
        ImportError, ValueError: see `find_decoder`; or the frame is cut short, damaged,
            or not of the size that the header says.
    """
    decoder = find_decoder(layout)
    if layout.syntax in NATIVE and layout.samples == 1:
        words = _read_native(path, layout)
    elif decoder is None:
        words = _decode_with_pydicom(path, layout)
    else:
        words = _decode_with_imagecodecs(decoder, path, layout)
    if words.dtype.kind == "i":
        words = words.view(f"u{words.dtype.itemsize}")
    shape = (layout.rows, layout.columns, 3)[: 3 if layout.samples == 3 else 2]
    if words.shape != shape or words.dtype.itemsize * 8 > layout.allocated:
        raise ValueError(
            f"its frame is {words.dtype} {words.shape}, and its header says {shape} of "
            f"{layout.allocated} bits; {DAMAGED}"
        )
    return words


def _read_native(path: Path, layout: Layout) -> np.ndarray:
    order = ">" if layout.syntax == BIG_ENDIAN else "<"
    swapped = order == ">" and layout.allocated == 8 and layout.element.vr == "OW"
    dtype = np.dtype(f"{order}u2" if layout.allocated == 16 or swapped else "u1")
    count = -(-layout.num_bytes // dtype.itemsize)
    if layout.syntax == DEFLATED:
        content = load_pydicom().dcmread(path).get("PixelData", b"")
        words = np.frombuffer(content, dtype, min(count, len(content)))
    else:
        words = np.fromfile(path, dtype, count, offset=layout.element.offset)
    if len(words) < count:
        raise ValueError(f"cut short within its Pixel Data; {DAMAGED}")
    if swapped:  # pairs of pixels are words of 16 bits
        words = words.astype("<u2").view(np.uint8)[: layout.num_bytes]
    return words.reshape(layout.rows, layout.columns)


def _read_frame(path: Path, layout: Layout) -> bytes:
    """The bytes of a compressed frame.

    Decoders of JPEG do not notice that the end is missing, and half of the image would
    be grey: the frame must end with the marker of its end.
    """
    load_pydicom()
    from pydicom.encaps import generate_frames

    with path.open("rb") as file:
        file.seek(layout.element.offset)
        try:
            frame = next(generate_frames(file.read(), number_of_frames=1))
        except Exception as error:  # ValueError, struct.error, StopIteration, ...
            raise ValueError(
                f"damaged Pixel Data ({brief(error)}); {DAMAGED}"
            ) from error
    # A frame of odd length is padded with 00 or FF.
    if layout.syntax != RLE and frame.rstrip(b"\0\xff")[-2:] != b"\xff\xd9":
        raise ValueError(f"cut short: its compressed frame has no end; {DAMAGED}")
    return frame


def _decode_with_imagecodecs(
    decoder: Callable[..., Any], path: Path, layout: Layout
) -> np.ndarray:
    frame = _read_frame(path, layout)
    try:
        if layout.syntax == RLE:
            _check_segments(frame, layout.allocated // 8)
            dtype = f"<u{layout.allocated // 8}"
            words = np.frombuffer(decoder(frame, dtype), dtype)
            return words.reshape(layout.rows, layout.columns)
        pixels: np.ndarray = decoder(frame)
    except Exception as error:  # each codec has its own type
        raise ValueError(f"damaged Pixel Data ({brief(error)}); {DAMAGED}") from error
    if layout.samples == 3 and layout.photometric.startswith("YBR_FULL"):
        convert = load_pydicom().pixels.convert_color_space
        pixels = convert(pixels, "YBR_FULL", "RGB")
    return pixels


def _check_segments(frame: bytes, count: int) -> None:
    """Raises ValueError if segments of RLE (PS3.5 G.5) are not all in the frame.

    imagecodecs 2026.3 reads memory beyond the frame then, and the process ends.
    """
    found, *offsets = struct.unpack("<16I", frame[:64])
    ends = [*offsets[:count], len(frame)]
    if found != count or ends[0] != 64 or any(np.diff(ends) <= 0):
        raise ValueError(f"{found} segments, of which the first ends at {ends[1]}")


def _decode_with_pydicom(path: Path, layout: Layout) -> np.ndarray:
    pydicom = load_pydicom()
    if layout.syntax not in NATIVE:
        _read_frame(path, layout)  # raises if it is cut short
    try:
        dataset = pydicom.dcmread(path)
        pixels: np.ndarray = pydicom.pixels.pixel_array(
            dataset, raw=layout.samples == 1
        )
    except Exception as error:  # RuntimeError of all its decoders, ValueError, ...
        raise ValueError(f"damaged Pixel Data ({brief(error)}); {DAMAGED}") from error
    return pixels
