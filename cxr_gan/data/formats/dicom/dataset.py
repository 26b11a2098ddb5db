"""Opens a DICOM file with pydicom and reads single values of its header.

The errors raised here do not name the file; `reader` adds its name.
"""

import dataclasses
import functools
import logging
import math
import types
import warnings
from collections.abc import MutableSequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

INSTALL = "type: pip install pydicom imagecodecs"
DAMAGED = "copy it again or delete it"
WRONG = "correct the header or delete the file"
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # of float, double or integers
LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")  # with a header of 12 bytes


@dataclasses.dataclass(frozen=True)
class PixelElement:
    """Where the Pixel Data are in a file."""

    offset: int  # of the value, bytes; no meaning if the data set is deflated
    length: int  # bytes; UNDEFINED if the frames are encapsulated
    vr: str  # "OB", "OW", or "" if the encoding is implicit

    UNDEFINED = 0xFFFFFFFF


@functools.cache
def load_pydicom() -> types.ModuleType:
    """Imports pydicom, and keeps its warnings about headers off the terminal.

    Raises:
        ImportError: pydicom is absent, too old or broken; says what to install.
    """
    try:
        import pydicom.pixels
    except ImportError as error:
        raise ImportError(f"DICOM needs pydicom; {INSTALL}") from error
    except Exception as error:  # python-gdcm raises AttributeError beside a folder "dl"
        raise ImportError(
            f"pydicom cannot be imported ({brief(error)}); start from another folder"
        ) from error
    if int(pydicom.__version__.split(".")[0]) < 3:
        raise ImportError(
            f"pydicom {pydicom.__version__} is older than 3; {INSTALL} --upgrade"
        )
    # One file can cause dozens of warnings, each printed and logged. What matters of
    # them is checked here. warnings.catch_warnings is not safe in threads.
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    return pydicom


def open_dataset(path: Path) -> tuple["Dataset", PixelElement | None]:
    """Reads a header up to the pixels, and finds these; None if there are none.

    Raises:
        ImportError: see `load_pydicom`.
        OSError: the file cannot be opened.
        ValueError: the header is damaged.
    """
    load_pydicom()
    from pydicom.filereader import read_partial

    found: list[tuple[str, int]] = []

    def is_pixel_data(tag: int, vr: str | None, length: int) -> bool:
        if tag in PIXEL_TAGS:
            found.append((vr or "", length))
        return tag in PIXEL_TAGS

    with path.open("rb") as file:
        try:
            dataset = read_partial(file, stop_when=is_pixel_data)
            is_cut = not found and _is_last_value_cut(dataset)
        except OSError:
            raise
        except Exception as error:  # pydicom raises many types on damaged bytes
            raise ValueError(f"damaged header ({brief(error)}); {DAMAGED}") from error
        if is_cut:
            raise ValueError(f"cut short within its header; {DAMAGED}")
        if not found:
            return dataset, None
        vr, length = found[-1]
        offset = file.tell() + (12 if vr in LONG_VRS else 8)
    return dataset, PixelElement(offset, length, vr)


def _is_last_value_cut(dataset: "Dataset") -> bool:
    """Whether the last value is shorter than it says, which pydicom accepts.

    "C" would be another modality than "CR".
    """
    last = dataset.get_item(max(dataset.keys())) if len(dataset) else None
    value = getattr(last, "value", None)
    return isinstance(value, bytes) and len(value) < getattr(last, "length", 0)


def brief(error: BaseException) -> str:
    """The start of an error's text, which may be long, in one line."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:120]


def values(dataset: "Dataset", keyword: str) -> list[Any]:
    """The values of an element; [] if it is absent or empty.

    Raises:
        ValueError: its bytes are not of its type.
    """
    try:
        value = dataset.get(keyword)
    except Exception as error:  # converted on access, with many types of errors
        raise ValueError(
            f"{keyword} cannot be read ({brief(error)}); {WRONG}"
        ) from error
    if value is None or (isinstance(value, str | bytes) and not value):
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def text(dataset: "Dataset", keyword: str) -> str:
    """The value of an element as text without blanks around it; "" if it has none."""
    return "\\".join(str(value) for value in values(dataset, keyword)).strip(" \0")


def word(dataset: "Dataset", keyword: str) -> str:
    """The first value of an element of code strings, in upper case; "" if none."""
    return text(dataset, keyword).split("\\")[0].strip().upper()


def numbers(dataset: "Dataset", keyword: str) -> list[float]:
    """The values of an element; [] if it is absent or empty.

    Raises:
        ValueError: one of them is not a finite number.
    """
    found = []
    for value in values(dataset, keyword):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{keyword} is {str(value)[:40]!r}, not a number; {WRONG}")
        found.append(number)
    return found


def number(dataset: "Dataset", keyword: str, default: float) -> float:
    """The first value of an element; `default` if it has none. Errors: `numbers`."""
    return next(iter(numbers(dataset, keyword)), default)
