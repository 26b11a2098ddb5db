"""Reads the header, and the picture, of a DICOM chest radiograph."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr_gan.data.formats.dicom import display, frames
from cxr_gan.data.formats.dicom.dataset import open_dataset, text, word
from cxr_gan.data.formats.dicom.layout import (
    COLOUR,
    PALETTE,
    Layout,
    parse_layout,
    pixel_aspect,
)
from cxr_gan.data.formats.dicom.selection import check_is_chest_radiograph, view_of
from cxr_gan.data.formats.dicom.shutter import close_shutter
from cxr_gan.data.listing import Header, LeftOutError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def is_dicom(path: Path) -> bool:
    """Whether a file has the preamble of DICOM, whatever its name is."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def inspect(path: Path, views: str = "frontal") -> Header:
    """Reads the header of a DICOM file, and checks that its pixels can be read.

    Args:
        path: a file for which `is_dicom` holds.
        views: one of `listing.VIEWS`; "frontal" leaves out all other views.

    Raises:
        LeftOutError: it is no single frontal chest radiograph.
        ValueError: it is damaged or contradicts itself; names the file and the remedy.
        ImportError: pydicom or a decoder is missing; names the package to install.
    """
    with _file_named_in_errors(path):
        dataset, element = open_dataset(path)
        check_is_chest_radiograph(dataset, element is not None, views)
        layout = parse_layout(dataset, element, path.stat().st_size)
        transformations = _parse_display(dataset, layout)
        frames.find_decoder(layout)
        study = text(dataset, "StudyInstanceUID") or text(dataset, "SeriesInstanceUID")
        return Header(
            kind="DICOM",
            height=layout.rows,
            width=layout.columns,
            bits=layout.stored,
            patient_id=text(dataset, "PatientID"),
            study=study,
            view=view_of(dataset),
            modality=word(dataset, "Modality"),
            manufacturer=text(dataset, "Manufacturer"),
            inverted=transformations is not None and transformations.inverted,
        )


def read_pixels(path: Path) -> tuple[np.ndarray, float]:
    """Reads the picture of a DICOM file as a viewer shows it.

    Returns:
        Grey levels, uint8 [h, w] with 0 for black, or RGB, uint8 [h, w, 3]; and the
        height of a pixel divided by its width.

    Raises:
        LeftOutError: it has several frames.
        ValueError, ImportError: see `inspect`.
    """
    with _file_named_in_errors(path):
        dataset, element = open_dataset(path)
        layout = parse_layout(dataset, element, path.stat().st_size)
        transformations = _parse_display(dataset, layout)
        pixels = frames.decode(path, layout)
        if transformations:
            pixels = display.to_grey(pixels, layout, transformations)
        elif layout.photometric == PALETTE:
            pixels = display.to_colour(pixels, layout, dataset)
        elif layout.stored != 8:
            pixels = np.rint(pixels * (255 / (2**layout.stored - 1))).astype(np.uint8)
        return close_shutter(pixels, dataset), pixel_aspect(dataset)


def _parse_display(dataset: "Dataset", layout: Layout) -> display.Display | None:
    """The transformations of a grey image; None if it is in colour."""
    if layout.photometric in (PALETTE, *COLOUR):
        return None
    return display.parse_display(dataset, layout)


@contextlib.contextmanager
def _file_named_in_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except LeftOutError:
        raise
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); check its path and "
            "its permissions"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except ImportError as error:
        raise ImportError(f"{path}: {error}") from error
