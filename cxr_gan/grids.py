"""Images side by side as one picture, each row with its name on the left."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SMALLEST = 64  # px; smaller images are enlarged by a whole factor to at least this
GAP = 2  # px between images and around them
INK = 255  # white, on black: the colour of a radiograph's frame


def grid(images: np.ndarray, row_names: Sequence[str]) -> np.ndarray:
    """uint8 [rows, columns, s, s, 1], a name for each row or "" -> uint8 [h, w].

    Raises:
        ValueError: if shape, type or the number of names is another.
    """
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[-1] != 1:
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}; "
            "must be uint8 [rows, columns, s, s, 1]"
        )
    rows, columns, size = images.shape[:3]
    if len(row_names) != rows:
        raise ValueError(f"{len(row_names)} row_names for {rows} rows; give one each")
    factor = -(-SMALLEST // size)
    tile = size * factor + GAP
    font = ImageFont.load_default(size=max(14, tile // 6))
    margin = 3 * GAP + max((int(font.getlength(name)) for name in row_names), default=0)
    margin = margin if any(row_names) else 0

    picture = np.zeros((rows * tile + GAP, margin + columns * tile + GAP), np.uint8)
    tiles = images[..., 0].repeat(factor, 2).repeat(factor, 3)
    room = np.pad(tiles, [(0, 0), (0, 0), (GAP, 0), (GAP, 0)])
    picture[:-GAP, margin:-GAP] = room.transpose(0, 2, 1, 3).reshape(rows * tile, -1)
    return _letter(picture, row_names, tile, font)


def _letter(
    picture: np.ndarray,
    row_names: Sequence[str],
    tile: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> np.ndarray:
    """Writes each name at the left of its row, half way down."""
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for row, name in enumerate(row_names):
        middle = row * tile + tile / 2
        draw.text((GAP, middle), name, fill=INK, font=font, anchor="lm")
    return np.asarray(canvas)
