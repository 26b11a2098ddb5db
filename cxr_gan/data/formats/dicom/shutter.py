"""The display shutter, outside of which a viewer shows black (PS3.3 C.7.6.11)."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from cxr_gan.data.formats.dicom.dataset import numbers, values

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

EDGES = (
    "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge",
    "ShutterLeftVerticalEdge",
    "ShutterRightVerticalEdge",
)


def close_shutter(pixels: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Blackens what is outside the display shutter of an image, if it has one.

    Of several shapes, what is inside all of them is shown. Shapes without their
    numbers are passed over, and so is a shutter that hides the whole image.

    Args:
        pixels: uint8 [h, w] or [h, w, 3].
        dataset: its header.
    """
    shapes = [str(shape).upper() for shape in values(dataset, "ShutterShape")]
    shown = np.ones(pixels.shape[:2], bool)
    for shape in shapes:
        shown &= _inside(shape, shown.shape, dataset)
    if shown.all() or not shown.any():
        return pixels
    closed = pixels.copy()
    closed[~shown] = 0
    return closed


def _inside(shape: str, size: tuple[int, ...], dataset: "Dataset") -> np.ndarray | bool:
    """Mask [h, w] of one shape; True if it has no numbers. Rows count from 1."""
    row, column = np.ogrid[1 : size[0] + 1, 1 : size[1] + 1]
    if shape == "RECTANGULAR":
        edges = [edge for keyword in EDGES for edge in numbers(dataset, keyword)[:1]]
        if len(edges) != 4:
            return True
        top, bottom, left, right = edges
        return (row >= top) & (row <= bottom) & (column >= left) & (column <= right)
    if shape == "CIRCULAR":
        center = numbers(dataset, "CenterOfCircularShutter")
        radius = numbers(dataset, "RadiusOfCircularShutter")
        if (len(center), len(radius)) != (2, 1):
            return True
        distance = (row - center[0]) ** 2 + (column - center[1]) ** 2
        return distance <= radius[0] ** 2
    corners = numbers(dataset, "VerticesOfThePolygonalShutter")
    if shape != "POLYGONAL" or len(corners) < 6 or len(corners) % 2:
        return True
    mask = Image.new("1", (size[1], size[0]))
    points = [(x - 1, y - 1) for y, x in zip(corners[::2], corners[1::2], strict=True)]
    ImageDraw.Draw(mask).polygon(points, fill=1, outline=1)
    return np.asarray(mask)
