"""From stored values to the grey levels that a viewer shows.

The order is that of PS3.4 N.2: stored value, modality transformation, VOI
transformation, presentation. Each maps one number to one number, so one table over all
words of 8 or 16 bits replaces them.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cxr_gan.data.formats.dicom.dataset import (
    WRONG,
    brief,
    load_pydicom,
    number,
    numbers,
    word,
)
from cxr_gan.data.formats.dicom.layout import Layout
from cxr_gan.data.formats.dicom.lookup_table import LookupTable, parse_lookup_table

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
DEPTHS = (8, 10, 12, 14, 16)  # bits that detectors have
BLOCK = 32768  # pixels mapped at once, so that temporary arrays stay in the CPU's cache


@dataclasses.dataclass(frozen=True)
class Window:
    """A window of grey values, in the unit that the modality transformation has."""

    center: float
    width: float
    function: str  # one of FUNCTIONS

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x [n] -> [n] in [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
        if self.function == "SIGMOID":
            exponent = -4 * (x - self.center) / self.width
            return 1 / (1 + np.exp(np.clip(exponent, -100, 100)))
        center, width = self.center, self.width
        if self.function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (x > center).astype(np.float64)
        return np.clip((x - center) / width + 0.5, 0, 1)


@dataclasses.dataclass(frozen=True)
class Display:
    """The transformations of one image, as its header has them."""

    modality: LookupTable | None
    slope: float
    intercept: float
    voi: LookupTable | Window | None
    inverted: bool  # whether the lowest value is shown white
    padding: tuple[int, int] | None  # lowest and highest stored value outside the image


def parse_display(dataset: "Dataset", layout: Layout) -> Display:
    """Reads the transformations of a grey image.

    Raises:
        ValueError: one of them has no meaning, such as a window of negative width.
    """
    slope = number(dataset, "RescaleSlope", 1)
    if slope == 0:
        raise ValueError(f"RescaleSlope is 0, which leaves no picture; {WRONG}")
    shape = word(dataset, "PresentationLUTShape")
    inverted = layout.photometric == "MONOCHROME1" and shape != "IDENTITY"
    return Display(
        modality=parse_lookup_table(dataset, "ModalityLUTSequence"),
        slope=slope,
        intercept=number(dataset, "RescaleIntercept", 0),
        voi=parse_lookup_table(dataset, "VOILUTSequence") or _parse_window(dataset),
        inverted=inverted or shape == "INVERSE",
        padding=_parse_padding(dataset, layout),
    )


def _parse_window(dataset: "Dataset") -> Window | None:
    """The first window; None if there is none. A width of 0 is no window."""
    function = word(dataset, "VOILUTFunction") or "LINEAR"
    centers = numbers(dataset, "WindowCenter")
    widths = numbers(dataset, "WindowWidth")
    windows = [pair for pair in zip(centers, widths, strict=False) if pair[1] != 0]
    if not windows:
        return None
    center, width = windows[0]
    if width < (1 if function == "LINEAR" else 0) or function not in FUNCTIONS:
        raise ValueError(
            f"WindowWidth is {width:g} and VOILUTFunction is {function}, which is no "
            f"window; {WRONG}"
        )
    return Window(center, width, function)


def _parse_padding(dataset: "Dataset", layout: Layout) -> tuple[int, int] | None:
    """Lowest and highest padding value; None if no stored value can be one."""
    ends = [*numbers(dataset, "PixelPaddingValue")[:1]]
    ends += numbers(dataset, "PixelPaddingRangeLimit")[: len(ends)]
    low = -(2 ** (layout.stored - 1)) if layout.signed else 0
    high = low + 2**layout.stored - 1
    # A header may hold a negative number as the unsigned number of the same 16 bits.
    fitted = [
        int(end - 65536 if layout.signed and end > 32767 else end) for end in ends
    ]
    if not fitted or max(fitted) < low or min(fitted) > high:
        return None
    return min(fitted), max(fitted)


def to_grey(words: np.ndarray, layout: Layout, display: Display) -> np.ndarray:
    """Maps words as stored to grey levels: uint8 or uint16 [h, w] -> uint8 [h, w].

    0 is black. Padding is black. Without a VOI transformation the nominal range of the
    values is shown, see also `_used_range`.
    """
    codes, x = _stored_values(layout)
    is_padding = np.zeros(x.shape, bool)
    if display.padding:
        is_padding = (x >= display.padding[0]) & (x <= display.padding[1])
    if display.modality:
        value: np.ndarray = display.modality(x)
        limits = np.array([0, 2**display.modality.bits - 1])
    else:
        value = x * display.slope + display.intercept
        limits = x
        if display.voi is None and layout.stored == 16:
            counts = np.bincount(words.ravel(), minlength=len(x))  # code is word here
            limits = _used_range(x, np.where(is_padding, 0, counts))
        limits = limits * display.slope + display.intercept
    if isinstance(display.voi, LookupTable):
        grey = display.voi(value) / (2**display.voi.bits - 1)
    elif display.voi:
        grey = display.voi(value)
    else:
        low, high = limits.min(), limits.max()
        grey = np.clip((value - low) / (high - low), 0, 1)
    if display.inverted:
        grey = 1 - grey
    table = np.where(is_padding, 0, np.rint(255 * grey)).astype(np.uint8)
    return apply_table(table[codes], words)


def to_colour(words: np.ndarray, layout: Layout, dataset: "Dataset") -> np.ndarray:
    """Maps palette indices to colours: uint8 or uint16 [h, w] -> uint8 [h, w, 3]."""
    codes, x = _stored_values(layout)
    try:
        table: np.ndarray = load_pydicom().pixels.apply_color_lut(x, dataset)
    except Exception as error:  # many types, such as struct.error
        raise ValueError(f"damaged palette ({brief(error)}); {WRONG}") from error
    if table.max(initial=0) > 255:
        table >>= 8
    return apply_table(table.astype(np.uint8)[codes], words)


def apply_table(table: np.ndarray, words: np.ndarray) -> np.ndarray:
    """table [n] or [n, 3], words [h, w] in [0, n - 1] -> [h, w] or [h, w, 3]."""
    result = np.empty((*words.shape, *table.shape[1:]), table.dtype)
    rows = max(1, BLOCK // words.shape[1])
    for top in range(0, len(words), rows):
        block = words[top : top + rows]
        # "clip" saves the copy of the result that "raise" makes.
        np.take(table, block, 0, result[top : top + rows], mode="clip")
    return result


def _stored_values(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Codes of all words, int64 [2^allocated]; values of codes, int64 [2^stored]."""
    words = np.arange(2**layout.allocated)
    codes = (words >> layout.shift) % 2**layout.stored
    x = np.arange(2**layout.stored)
    if layout.signed:
        x[len(x) // 2 :] -= len(x)
    return codes, x


def _used_range(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The range of the fewest bits of DEPTHS that hold 99.9 % of the values.

    Many programs write 16 bits and no window whatever the depth of the detector is, and
    the nominal range would show the image nearly black.

    Args:
        x: stored values [n].
        counts: number of pixels of each value [n].
    """
    magnitude = np.where(x < 0, -1 - x, x)
    order = np.argsort(magnitude, kind="stable")
    total = np.cumsum(counts[order])
    largest = int(magnitude[order][np.searchsorted(total, 0.999 * total[-1])])
    depth = next(bits for bits in DEPTHS if largest < 2**bits)
    has_negative = bool(counts[x < 0].any())
    return np.array([-(2**depth) if has_negative else 0, 2**depth - 1])
