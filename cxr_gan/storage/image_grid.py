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


class FirstImages:
    """Keeps the first images of each class, and arranges them in a grid.

    One row per class; `rows` rows if all images are of one class.
    """

    def __init__(
        self, num_classes: int, size: int, columns: int = 8, rows: int = 8
    ) -> None:
        """Images are uint8 [size, size], of so many different classes."""
        self._size, self._columns = size, columns
        self._limit = columns * (rows if num_classes == 1 else 1)
        self._kept: dict[int, list[np.ndarray]] = {}

    def add(self, image: np.ndarray, label: int) -> None:
        """Keeps uint8 [size, size] if it is one of the first of its class."""
        kept = self._kept.setdefault(label, [])
        if len(kept) < self._limit:
            kept.append(image)

    def grid(self, class_names: Sequence[str]) -> np.ndarray:
        """The grid of at least one image, uint8 [h, w]; see `make_grid`."""
        rows: list[list[np.ndarray]] = []
        names: list[str] = []
        for label, kept in sorted(self._kept.items()):
            rows += [
                kept[i : i + self._columns] for i in range(0, len(kept), self._columns)
            ]
            names += [class_names[label]] + [""] * (len(rows) - len(names) - 1)
        width = max(map(len, rows))
        images = np.zeros((len(rows), width, self._size, self._size, 1), np.uint8)
        for y, row in enumerate(rows):
            for x, image in enumerate(row):
                images[y, x, :, :, 0] = image
        return make_grid(images, names)
