"""The types of a data set of image files: how it is read, and what was found in it."""

import dataclasses
import hashlib
from pathlib import Path

VIEWS = ("frontal", "all")
ON_ERROR = ("stop", "skip")


class LeftOutError(ValueError):
    """A whole, readable file is no single frontal chest radiograph.

    Such files are left out and counted by reason; they do not stop a reading. The text
    is the reason, the same for all files of a kind: "a lateral view".
    """


@dataclasses.dataclass(frozen=True)
class ManifestOptions:
    """How to read a manifest; "" where its column names say it.

    `file`, `label`, `patient`, `split` and `view` are names of columns (numbers from 1
    where there is no header). `label` may name several columns of 1, 0, -1 or blank.
    """

    file: str = ""
    label: str = ""
    patient: str = ""
    split: str = ""
    view: str = ""
    where: str = ""  # which rows to use: "view in ['PA','AP'] and age >= 18"
    classes: str = ""  # label to class: "Pneumonia=PNEUMONIA,No Finding=NORMAL"
    images: str = ""  # folder of the files; "" for the manifest's own


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How to read a data set of files; the defaults suit a folder of class folders."""

    manifest: ManifestOptions = ManifestOptions()
    patient_pattern: str = ""  # regular expression; its group 1 is the patient
    views: str = "frontal"  # one of VIEWS
    on_error: str = "stop"  # one of ON_ERROR

    def __post_init__(self) -> None:
        for name, choices in (("views", VIEWS), ("on_error", ON_ERROR)):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"{name}={value!r} must be one of {', '.join(choices)}"
                )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image file of a data set, not opened yet."""

    path: Path
    file: str  # path relative to the data set, with forward slashes
    class_name: str
    split: str  # "train" or "val"
    patient: str = ""  # as the manifest has it; "" if it has none
    view: str = ""  # as the manifest has it; "" if it has none


@dataclasses.dataclass(frozen=True)
class Listing:
    """The image files of a data set.

    The entries of train come before those of val; within a split, they are sorted by
    class name, then by file.
    """

    root: Path
    entries: tuple[Entry, ...]
    left_out: dict[str, int]  # reason -> number of files, or of rows
    notes: tuple[str, ...] = ()  # warnings


@dataclasses.dataclass(frozen=True)
class Header:
    """What the header of an image file says; "" and 0 where it says nothing."""

    kind: str  # "DICOM", "JPEG", "PNG" or "TIFF"
    height: int  # px, as stored
    width: int
    bits: int = 8  # of a grey value, as the header has it
    turned: bool = False  # whether an EXIF orientation turns or mirrors it
    patient_id: str = ""  # this and the rest: DICOM only
    study: str = ""  # StudyInstanceUID, or else SeriesInstanceUID
    view: str = ""
    modality: str = ""
    manufacturer: str = ""
    inverted: bool = False  # stored with white as the lowest value


def typed(name: str, value: str) -> str:
    """What to type to set a field of ReadOptions, for messages."""
    return f"--{name}={value} (--config.{name}={value} in a training)"


def listing_fingerprint(listing: Listing) -> str:
    """Hash that changes whenever a file, a class, a split or a patient does.

    A file counts as changed if its size or its time of modification differs, or if it
    is there no more.
    """
    digest = hashlib.sha256(str(listing.root.resolve()).encode())
    for entry in listing.entries:
        known = entry.file, entry.class_name, entry.split, entry.patient, entry.view
        digest.update(repr((*known, *version_of(entry.path))).encode())
    return digest.hexdigest()


def version_of(path: Path) -> tuple[int, ...]:
    """Changes if the file does: its size and time of modification; () without it."""
    try:
        stat = path.stat()
    except OSError:  # whoever reads the file says why
        return ()
    return stat.st_size, stat.st_mtime_ns
