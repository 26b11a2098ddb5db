"""Image files of all kinds; their content decides how they are read, not their name."""

from pathlib import Path

from cxr_gan.data.formats import decode, dicom, file_errors, raster
from cxr_gan.data.listing import Header


def inspect(path: Path, views: str = "frontal") -> Header:
    """Reads the header of an image file, not its pixels.

    Args:
        path: of the file.
        views: one of `listing.VIEWS`; which views of DICOM files are used.

    Raises:
        LeftOutError: the file is no single radiograph of such a view.
        ValueError: it is empty, unreadable, damaged or not an image; names the file.
        ImportError: no installed package decodes it; names the package.
    """
    if _is_dicom(path):
        return dicom.inspect(path, views)
    return raster.inspect(path)


def read(path: Path, resolution: int) -> decode.DecodedImage:
    """Decodes an image file to a square of resolution px.

    Pixels of DICOM files are final, scaled as their header says.

    Raises:
        LeftOutError: the file is no single grey radiograph.
        ValueError, ImportError: as `inspect`.
    """
    if _is_dicom(path):
        pixels, aspect = dicom.read_pixels(path)
        return decode.to_square(pixels, resolution, str(path), aspect)
    pixels, is_inverted = raster.read_pixels(path)
    return decode.to_square(pixels, resolution, str(path), inverted=is_inverted)


def _is_dicom(path: Path) -> bool:
    with file_errors.readable(path):
        return dicom.is_dicom(path)
