"""A grid of images as one picture, with the name of each row on its left."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MIN_IMAGE_SIZE = 64  # px; smaller images are enlarged by an integer factor to >= 64
GAP = 2  # px between images and around them
TEXT_COLOR = 255  # white on black, as the border of a radiograph is black


def make_grid(images: np.ndarray, row_names: Sequence[str]) -> np.ndarray:
    """Arranges images in a grid: uint8 [rows, columns, s, s, 1] -> uint8 [h, w].

    Args:
        images: uint8 [rows, columns, s, s, 1].
        row_names: a name for each row; "" leaves a row without a name.

    Raises:
        ValueError: wrong shape, dtype or number of names.
    """
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[-1] != 1:
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}; "
            "must be uint8 [rows, columns, s, s, 1]"
        )
    rows, columns, size = images.shape[:3]
    if len(row_names) != rows:
        raise ValueError(
            f"{len(row_names)} row_names for {rows} rows; give one for each row"
        )
    factor = -(-MIN_IMAGE_SIZE // size)
    tile = size * factor + GAP
    font = ImageFont.load_default(size=max(14, tile // 6))
    margin = 3 * GAP + max((int(font.getlength(name)) for name in row_names), default=0)
    margin = margin if any(row_names) else 0

    grid = np.zeros((rows * tile + GAP, margin + columns * tile + GAP), np.uint8)
    enlarged = images[..., 0].repeat(factor, 2).repeat(factor, 3)
    tiles = np.pad(enlarged, [(0, 0), (0, 0), (GAP, 0), (GAP, 0)])
    grid[:-GAP, margin:-GAP] = tiles.transpose(0, 2, 1, 3).reshape(rows * tile, -1)

    canvas = Image.fromarray(grid)
    draw = ImageDraw.Draw(canvas)
    for row, name in enumerate(row_names):
        middle = row * tile + tile / 2
        draw.text((GAP, middle), name, fill=TEXT_COLOR, font=font, anchor="lm")
    return np.asarray(canvas)
