"""Writes small DICOM files for tests."""

import pathlib

import numpy as np
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
STORAGE = "1.2.840.10008.5.1.4.1.1"
COMPUTED_RADIOGRAPHY = f"{STORAGE}.1"
TEXT_VRS = ("CS", "DS", "IS", "LO", "SH", "UI")


def header(**elements) -> Dataset:
    """The header of a frontal chest radiograph without pixels.

    `elements` are added to it, or replace its own; those given as None are left out.
    Text given as bytes is written as it is, even if it is not valid.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    dataset.file_meta.MediaStorageSOPClassUID = COMPUTED_RADIOGRAPHY
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.SOPClassUID = COMPUTED_RADIOGRAPHY
    dataset.SOPInstanceUID = "1.2.3.4"
    defaults = {
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientID": "P1",
        "StudyInstanceUID": "1.2.3",
    }
    for keyword, value in {**defaults, **elements}.items():
        is_text = isinstance(value, bytes) and dictionary_VR(keyword) in TEXT_VRS
        if is_text:
            tag, vr = Tag(keyword), dictionary_VR(keyword)
            dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        elif value is not None:
            setattr(dataset, keyword, value)
    return dataset


def image(words: np.ndarray, bits: int = 12, **elements) -> Dataset:
    """A radiograph of words [h, w] or [h, w, 3] of 8 or 16 bits, as they are stored."""
    is_colour = words.ndim == 3
    attributes = {
        "PhotometricInterpretation": "RGB" if is_colour else "MONOCHROME2",
        "Rows": words.shape[0],
        "Columns": words.shape[1],
        "SamplesPerPixel": 3 if is_colour else 1,
        "PlanarConfiguration": 0 if is_colour else None,
        "BitsAllocated": 8 * words.dtype.itemsize,
        "BitsStored": min(bits, 8 * words.dtype.itemsize),
        "PixelRepresentation": 0,
    }
    dataset = header(**{**attributes, **elements})
    if "HighBit" not in elements:
        dataset.HighBit = dataset.BitsStored - 1
    raw = words.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW" if words.dtype.itemsize == 2 else "OB"
    return dataset


def compressed(frame: bytes, syntax: str, like: np.ndarray, **elements) -> Dataset:
    """A radiograph whose only frame is `frame`, the encoded form of `like`."""
    dataset = image(like, **elements)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def save(dataset: Dataset, path: pathlib.Path) -> pathlib.Path:
    """Writes `dataset` with a preamble, in the encoding of its transfer syntax."""
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.save_as(
        path,
        implicit_vr=syntax == IMPLICIT,
        little_endian=syntax != BIG_ENDIAN,
        enforce_file_format=True,
    )
    return path


def item(**elements) -> Dataset:
    """An item of a sequence."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def lookup_table(
    entries: np.ndarray, first: int, bits: int, count: int | None = None
) -> Dataset:
    """The item of a Modality or VOI LUT Sequence that claims `count` entries."""
    count = len(entries) if count is None else count
    dataset = Dataset()
    dataset.add_new("LUTDescriptor", "SS" if first < 0 else "US", None)
    dataset["LUTDescriptor"].value = [count % 65536, first, bits]
    dataset.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return dataset


def public_file(name: str) -> pathlib.Path:
    """A test file of pydicom, or of pydicom-data."""
    path = get_testdata_file(name, download=False)
    path = path or next(iter(get_charset_files(name)), None)
    assert path is not None, f"{name} is not in pydicom-data"
    return pathlib.Path(path)
