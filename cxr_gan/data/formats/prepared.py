"""Reads prepared sets: folders of decoded images, with a checksum for each image.

A prepared set of n images of s x s pixels has these files:

- `images.npy`: uint8 [n, s, s, 1]; the images of train, followed by those of val.
- `index.csv`: one `Row` per image, in the same order, below a line of their names.
- `dataset.json`: the fields of `Description`.
- `.gitignore`: keeps git from adding the folder.

`cxr_gan.prepare` adds the audit, which no reader needs.

The pixels stay on disk until they are used, so a set may be larger than memory. The
index takes about 200 bytes of memory per image.
"""

import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr_gan.data.dataset import ImageSet, RawSplits, Source, Summary, identity
from cxr_gan.data.patients import patient_keys
from cxr_gan.storage import files
from cxr_gan.storage.checksums import CORRUPT_FILE_ERRORS

VERSION = 2  # increase it when the files change; other versions are refused
IMAGES, INDEX, DATASET = "images.npy", "index.csv", "dataset.json"
SPLITS = ("train", "val")  # in the order of their rows
# NumPy and json raise these for damaged headers, besides CORRUPT_FILE_ERRORS.
HEADER_ERRORS = (
    *(OverflowError, RecursionError, SyntaxError, TypeError),
    tokenize.TokenError,
)
RESTORE = "copy the folder again, or prepare it again"


class Row(NamedTuple):
    """One image in index.csv; the names are the columns."""

    id: str
    label: str  # index of class_name in the classes
    class_name: str
    patient: str  # keyed hash of `patients.keys_of`, hex; "" if unknown
    split: str  # "train" or "val"
    half: str  # "A" or "B", see `splits.in_half_a`
    file: str  # path of the original relative to the data set; "" if there is none
    sha256: str  # of the pixels, hex
    # This and the rest are properties of the original file; "" if unknown.
    kind: str
    height: str  # px
    width: str
    bits: str
    view: str
    modality: str
    manufacturer: str

    @property
    def shorter_side(self) -> int:
        """Of the original file, px; 0 if it is unknown."""
        return min(int(self.height or 0), int(self.width or 0))


@dataclasses.dataclass(frozen=True)
class Description:
    """The content of dataset.json."""

    version: int
    classes: tuple[str, ...]  # index = label
    resolution: int  # px
    identity: str  # of train and val, see `dataset.identity`
    index_sha256: str  # of index.csv, hex
    notes: tuple[str, ...]  # warnings to log at each load
    # Hash of what the set was read from, and how; "" if that is unknown.
    source: str
    summary: Summary


def open_prepared(location: str) -> Source:
    """Checks that its three files exist, without reading them.

    Raises:
        FileNotFoundError: one of them does not exist.
    """
    folder = files.expand_user(location, "dataset")
    for name in (DATASET, INDEX, IMAGES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name}: no such file; a prepared set has {IMAGES}, {INDEX} "
                f"and {DATASET}; {RESTORE}"
            )
    return Source(None, functools.partial(_read, folder))


def _read(folder: Path, resolution: int) -> RawSplits:
    """The set, after every byte was compared with the checksums; pixels stay on disk.

    Raises:
        ValueError: a file is not as `write` wrote it (names it, and the image whose
            pixels changed), or the images have another resolution.
    """
    expected = read_description(folder)
    if expected.resolution != resolution:
        raise ValueError(
            f"{folder}: the images have {expected.resolution} px, but {resolution} px "
            f"are needed; prepare the data again with --resolution={resolution}, or "
            f"train with --config.resolution={expected.resolution}"
        )
    if sha256_of_file(folder / INDEX) != expected.index_sha256:
        raise _changed(folder / INDEX)
    train, val = map_images(folder, resolution)
    # The identity covers pixels, labels, ids and classes; rows name what changed.
    found = identity(train, val, expected.classes)
    if found != expected.identity:
        images = itertools.chain(train.images, val.images)
        for number, (row, image) in enumerate(zip(rows(folder), images, strict=True)):
            if hashlib.sha256(image.tobytes()).hexdigest() != row.sha256:
                raise _changed(folder / IMAGES, f"image {number}, {row.id!r}, ")
        raise _changed(folder / DATASET, "classes or identity ")
    return RawSplits(
        train,
        val if len(val) else None,
        expected.classes,
        expected.notes,
        found,
        is_split=True,
        summary=expected.summary,
    )


def _changed(path: Path, part: str = "") -> ValueError:
    return ValueError(f"{path}: {part}changed since it was written; {RESTORE}")


def read_description(folder: Path) -> Description:
    """The description of a prepared set.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    path = folder / DATASET
    try:
        content = json.loads(path.read_text("utf-8"))
        version = int(content["version"])
        if version == VERSION:
            content["classes"] = tuple(content["classes"])
            content["notes"] = tuple(content["notes"])
            return Description(**content)
    except (ValueError, KeyError, TypeError, *HEADER_ERRORS) as error:
        raise ValueError(
            f"{path}: damaged, or not of a prepared set ({error!r}); {RESTORE}; if it "
            f"lies in a folder of images, give folder:{path.parent}"
        ) from error
    raise ValueError(
        f"{path}: has version {version}, but this cxr_gan reads version {VERSION}; "
        "prepare the set again, or install the version that wrote it"
    )


def map_images(folder: Path, side: int) -> tuple[ImageSet, ImageSet]:
    """Train and val, memory-mapped; either may be empty.

    Their patients and halves are those of index.csv.

    Raises:
        ValueError: images.npy is truncated or does not fit index.csv; names it.
    """
    path = folder / IMAGES
    ids, labels, hashes, halves, paths, num_train = [], [], [], [], [], 0
    for row in rows(folder):
        ids.append(row.id)
        labels.append(int(row.label))
        hashes.append(sys.intern(row.patient))
        halves.append(sys.intern(row.half))
        paths.append(row.file)
        num_train += row.split == "train"
    try:
        pixels = np.lib.format.open_memmap(path, mode="r")
        if pixels.dtype != np.uint8 or pixels.shape != (len(ids), side, side, 1):
            raise ValueError(f"{pixels.dtype} {pixels.shape} for {len(ids)} rows")
    except (*CORRUPT_FILE_ERRORS, *HEADER_ERRORS) as error:
        raise ValueError(
            f"{path}: truncated or damaged ({error}); {RESTORE}"
        ) from error

    keys = _keys(ids, hashes)

    def part(of: slice) -> ImageSet:
        return ImageSet(
            pixels[of],
            np.array(labels[of], np.int32),
            tuple(ids[of]),
            tuple(paths[of]) if any(paths) else (),
            tuple(keys[of]),
            tuple(halves[of]),
        )

    return part(slice(num_train)), part(slice(num_train, None))


def _keys(ids: Sequence[str], hashes: Sequence[str]) -> list[str]:
    """Keys of the patients (see `ImageSet.patients`), from the stored hashes.

    A patient's hash is another one in every set, and its key must not be: the order of
    patients in a split depends on it. The keys are therefore those that the ids show,
    if the ids show the same patients, and else name the first image of each patient.

    Returns:
        [] if the ids show the same patients.
    """
    if _show_same_patients(ids, hashes):
        return []
    first: dict[str, str] = {}
    return [
        first.setdefault(hashed, str(("first image", id_))) if hashed else id_
        for id_, hashed in zip(ids, hashes, strict=True)
    ]


def _show_same_patients(ids: Sequence[str], hashes: Sequence[str]) -> bool:
    key_of: dict[str, str] = {}
    for id_, hashed in zip(ids, hashes, strict=True):
        (key,) = patient_keys([id_])
        if (key_of.setdefault(hashed, key) if hashed else id_) != key:
            return False
    return len(set(key_of.values())) == len(key_of)


def rows(folder: Path) -> Iterator[Row]:
    """The rows of index.csv, of all images of train and then of val."""
    with (folder / INDEX).open(encoding="utf-8", newline="") as text:
        table = csv.reader(text)
        next(table)  # the names
        yield from map(Row._make, table)


def sha256_of_file(path: Path) -> str:
    """The hash of the content, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
