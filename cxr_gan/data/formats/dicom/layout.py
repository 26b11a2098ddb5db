"""How the pixels of a DICOM file are stored, checked before they are decoded."""

import dataclasses
from typing import TYPE_CHECKING

from PIL import Image

from cxr_gan.data.formats.dicom.dataset import (
    DAMAGED,
    WRONG,
    PixelElement,
    number,
    numbers,
    text,
)
from cxr_gan.data.listing import LeftOutError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the pixels of one frame are stored."""

    syntax: str  # UID of the transfer syntax
    photometric: str  # of GREY, PALETTE or COLOUR
    rows: int
    columns: int
    samples: int  # 1, or 3 if `photometric` is of COLOUR
    allocated: int  # bits of a sample in the file, 8 or 16
    stored: int  # bits of a sample that are used
    shift: int  # unused bits below them
    signed: bool  # whether samples are in two's complement
    element: PixelElement

    @property
    def num_bytes(self) -> int:
        """Length of the frame if it is not compressed."""
        count = self.rows * self.columns * self.samples * self.allocated // 8
        return count * 2 // 3 if self.photometric == "YBR_FULL_422" else count


def parse_layout(
    dataset: "Dataset", element: PixelElement | None, file_size: int
) -> Layout:
    """Reads and checks the attributes of PS3.3 C.7.6.3, Image Pixel Module.

    Args:
        dataset: a header.
        element: the pixels; None if none follow the header.
        file_size: length of the file in bytes.

    Raises:
        LeftOutError: there are several frames.
        ValueError: the attributes are incomplete or contradict each other, or the file
            is shorter than they say.
    """
    if element is None:
        raise ValueError(f"cut short: no Pixel Data after its header; {DAMAGED}")
    if number(dataset, "NumberOfFrames", 1) > 1:
        raise LeftOutError("an image of several frames")
    photometric = text(dataset, "PhotometricInterpretation").upper()
    if not photometric:
        raise ValueError(f"its header has no PhotometricInterpretation; {DAMAGED}")
    if photometric not in (*GREY, PALETTE, *COLOUR):
        raise ValueError(
            f"PhotometricInterpretation is {photometric[:40]!r}, which is not one of "
            f"{', '.join((*GREY, PALETTE, *COLOUR))}; {WRONG}"
        )
    is_colour = photometric in COLOUR
    allocated = _integer(dataset, "BitsAllocated")
    stored = int(number(dataset, "BitsStored", allocated))
    high = int(number(dataset, "HighBit", stored - 1))
    layout = Layout(
        _syntax(dataset),
        photometric,
        _integer(dataset, "Rows"),
        _integer(dataset, "Columns"),
        int(number(dataset, "SamplesPerPixel", 3 if is_colour else 1)),
        allocated,
        stored,
        high + 1 - stored,
        number(dataset, "PixelRepresentation", 0) == 1,
        element,
    )
    if layout.samples != (3 if is_colour else 1):
        raise ValueError(
            f"SamplesPerPixel is {layout.samples}, which contradicts {photometric}; "
            f"{WRONG}"
        )
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise ValueError(
            f"BitsStored is {stored} and BitsAllocated is {allocated}; a radiograph "
            f"has up to 8 or 16 bits; {WRONG}"
        )
    if not stored - 1 <= high < allocated:
        raise ValueError(
            f"HighBit is {high}, which contradicts BitsStored {stored} and "
            f"BitsAllocated {allocated}; {WRONG}"
        )
    _check_size(layout, file_size)
    return layout


def _integer(dataset: "Dataset", keyword: str) -> int:
    value = int(number(dataset, keyword, 0))
    if value < 1:
        raise ValueError(f"its header has no {keyword}; {DAMAGED}")
    return value


def _syntax(dataset: "Dataset") -> str:
    """UID of the transfer syntax; that of the encoding found, if none is given."""
    syntax = text(dataset.file_meta, "TransferSyntaxUID")
    if syntax:
        return syntax
    is_implicit, is_little_endian = dataset.original_encoding
    if not is_little_endian:
        return BIG_ENDIAN
    return IMPLICIT if is_implicit else EXPLICIT


def _check_size(layout: Layout, file_size: int) -> None:
    pixels = layout.rows * layout.columns
    limit = 2 * (Image.MAX_IMAGE_PIXELS or pixels)  # as Pillow has it for other files
    if pixels > limit:
        raise ValueError(
            f"too large: {layout.rows} x {layout.columns} pixels, more than the limit "
            f"of {limit}; make it smaller"
        )
    is_encapsulated = layout.element.length == PixelElement.UNDEFINED
    if is_encapsulated == (layout.syntax in NATIVE):
        raise ValueError(
            f"its Pixel Data contradict its transfer syntax {layout.syntax}; {DAMAGED}"
        )
    present = layout.element.length
    if layout.syntax != DEFLATED:
        present = min(present, file_size - layout.element.offset)
    if layout.syntax in NATIVE and present < layout.num_bytes:
        raise ValueError(
            f"cut short: {present} of {layout.num_bytes} bytes of Pixel Data; {DAMAGED}"
        )


def pixel_aspect(dataset: "Dataset") -> float:
    """Height of a pixel divided by its width; 1 if the header does not say it.

    PixelSpacing, ImagerPixelSpacing, NominalScannedPixelSpacing and PixelAspectRatio
    give the vertical number first (PS3.3 10.7.1.3 and C.7.6.3.1.7). Those that are not
    two positive numbers are passed over.
    """
    for keyword in (
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
        "PixelAspectRatio",
    ):
        try:
            height, width = numbers(dataset, keyword)
        except ValueError:
            continue
        if height > 0 and width > 0:
            return height / width
    return 1.0
