"""Writes PNG and TIFF files of kinds that Pillow cannot write."""

import struct
import zlib
from pathlib import Path

import numpy as np

# Adam7: first column, first row, and steps of both, of each pass.
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
PASSES += [(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels


def png16(path: Path, samples: np.ndarray, interlaced: bool = False) -> Path:
    """Writes uint16 [h, w, c]: grey, grey and alpha, RGB or RGBA."""
    parts = [samples]
    if interlaced:
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES]
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for part in parts
        if part.size
        for row in part
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    height, width, channels = samples.shape
    colour = COLOUR_TYPES[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, interlaced)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b""))
    return path


def tiff(path: Path, pixels: np.ndarray, planar: bool = False, **tags: int) -> Path:
    """Writes [h, w] or [h, w, 3] in its own byte order as one strip.

    The tags photometric, compression (1 none, 8 deflate), orientation and sample_format
    (1 unsigned, 2 signed, 3 float) replace those that fit the pixels.
    """
    order = ">" if pixels.dtype.str[0] == ">" else "<"
    height, width, channels = np.atleast_3d(pixels).shape
    kinds = {"u": 1, "i": 2, "f": 3}
    photometric = tags.get("photometric", 1 if channels == 1 else 2)
    compression = tags.get("compression", 1)
    planes = np.moveaxis(pixels, 2, 0) if planar else pixels[np.newaxis]
    strips = [plane.tobytes() for plane in planes]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    entries = {
        256: [width],
        257: [height],
        258: [8 * pixels.dtype.itemsize] * channels,
        259: [compression],
        262: [photometric],
        273: [8 + sum(map(len, strips[:i])) for i in range(len(strips))],
        274: [tags.get("orientation", 1)],
        277: [channels],
        278: [height],
        279: [len(strip) for strip in strips],
        284: [2 if planar else 1],
        339: [tags.get("sample_format", kinds[pixels.dtype.kind])] * channels,
    }
    data = b"".join(strips)
    directory = struct.pack(order + "H", len(entries))
    for tag, values in entries.items():  # 4: LONG
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, data = struct.pack(order + "I", 8 + len(data)), data + packed
        directory += struct.pack(order + "HHI", tag, 4, len(values)) + packed
    name = b"II" if order == "<" else b"MM"
    start = struct.pack(order + "2sHI", name, 42, 8 + len(data))
    path.write_bytes(start + data + directory + bytes(4))
    return path
