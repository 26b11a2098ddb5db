"""Prepared sets: folders of decoded images, memory-mapped, with a checksum per image.

A prepared set of n images of s x s pixels has four files:

- `images.npy`: uint8 [n, s, s, 1]; the images of train, followed by those of val.
- `index.csv`: one `Row` per image, in the same order, below a line of their names.
- `dataset.json`: the fields of `Description`.
- `.gitignore`: keeps git from adding the folder.

The pixels stay on disk until they are used, so a set may be larger than memory. The
index takes about 200 bytes of memory per image.
"""

import contextlib
import csv
import dataclasses
import functools
import glob
import hashlib
import itertools
import json
import os
import secrets
import shutil
import sys
import tokenize
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from cxr_gan.data.dataset import ImageSet, RawSplits, Source, Summary, identity
from cxr_gan.data.listing import Header
from cxr_gan.data.patients import keys_of, patient_keys
from cxr_gan.data.splits import in_half_a
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
IGNORE = ".gitignore"
IGNORED = (
    "# Images of patients and the names of their files must not be committed.\n*\n"
)
RESTORE = "copy the folder again, or prepare it again"
NO_HEADER = Header("", 0, 0, 0)


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
    # This and the rest are from the original's header; "" if there is none.
    kind: str
    height: str  # px
    width: str
    bits: str
    view: str
    modality: str
    manufacturer: str


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


def write(
    folder: str | os.PathLike[str],
    class_names: tuple[str, ...],
    chunks: Iterable[tuple[str, ImageSet]],
    notes: tuple[str, ...] = (),
    *,
    source: str = "",
    summary: Summary | None = None,
    headers: Mapping[str, Header] | None = None,
) -> None:
    """Writes a prepared set; only one chunk of images is in memory at a time.

    The files are written to a temporary folder, which is renamed at the end: readers
    never see a partial set, and a failure leaves nothing behind. The key of the
    patients' hashes is drawn for each set and not stored, so a hash does not reveal the
    patient, and patients of two sets cannot be matched.

    Args:
        folder: new, or empty.
        class_names: index = label; all different.
        chunks: (split, images) with any number of images each, all of one size; the
            split is "train" or "val", and all of train comes before val.
        notes: warnings to log at each load.
        source: see `Description`.
        summary: see `Description`.
        headers: of the images that were read from files, by id.

    Raises:
        FileExistsError: the folder is not empty, or is a file.
        ValueError: a chunk is not as stated, a label is not a class, an id occurs
            twice, or there are no images.
        files.DiskError: the folder cannot be written.
        Exception: any error of `chunks`, unchanged.
    """
    folder = files.expand_user(folder, "folder").resolve()
    class_names = tuple(map(str, class_names))
    if len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names={class_names} must be different")
    require_new(folder)
    unfinished = folder.with_name(f".{folder.name}.unfinished-{uuid.uuid4().hex}")
    with _own_errors(chunks) as checked, files.translate_os_errors(folder):
        try:
            unfinished.mkdir(parents=True)
            side = _write_images(unfinished, class_names, checked, headers or {})
            description = Description(
                version=VERSION,
                classes=class_names,
                resolution=side,
                identity=identity(*_map(unfinished, side), class_names),
                index_sha256=_sha256_of_file(unfinished / INDEX),
                notes=notes,
                source=source,
                summary=summary or {},
            )
            text = json.dumps(dataclasses.asdict(description), indent=2)
            (unfinished / DATASET).write_text(f"{text}\n", "utf-8")
            (unfinished / IGNORE).write_text(IGNORED, "utf-8")
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def require_new(folder: Path) -> None:
    """Raises FileExistsError if there is such a file, or a folder that is not empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise FileExistsError(f"{folder} {what}; give a new folder")


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left when they wrote the set of this folder."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.unfinished-*"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _own_errors(
    chunks: Iterable[tuple[str, ImageSet]],
) -> Iterator[Iterator[tuple[str, ImageSet]]]:
    """The chunks; an OSError of reading them leaves the block unchanged."""
    raised: list[OSError] = []

    def checked() -> Iterator[tuple[str, ImageSet]]:
        try:
            yield from chunks
        except OSError as error:
            raised.append(error)
            raise

    try:
        yield checked()
    except files.DiskError:
        if raised:
            raise raised[0] from None
        raise


def _write_images(
    folder: Path,
    class_names: tuple[str, ...],
    chunks: Iterable[tuple[str, ImageSet]],
    headers: Mapping[str, Header],
) -> int:
    """Writes images.npy and index.csv; returns the height of the images in px."""
    patient_key = secrets.token_bytes(32)
    seen: set[str] = set()
    side, allowed = 0, list(SPLITS)
    with (
        (folder / IMAGES).open("wb") as pixels,
        (folder / INDEX).open("w", encoding="utf-8", newline="") as text,
    ):
        table = csv.writer(text)
        table.writerow(Row._fields)
        for split, images in chunks:
            if split not in allowed:
                raise ValueError(f"a chunk of {split!r}; give {' or '.join(allowed)}")
            allowed = allowed[allowed.index(split) :]
            if not side:
                side = images.images.shape[1]
                _write_header(pixels, 0, side)
            if images.images.shape[1] != side:
                raise ValueError(
                    f"a chunk of {split} has images of {images.images.shape[1]} px, "
                    f"earlier ones of {side} px; give images of one size"
                )
            for row in _rows(split, images, class_names, patient_key, headers):
                if row.id in seen:
                    raise ValueError(f"the id {row.id!r} occurs twice; change one")
                seen.add(row.id)
                table.writerow(row)
            pixels.write(np.ascontiguousarray(images.images).data)
        if not seen:
            raise ValueError("there are no images to write")
        pixels.seek(0)
        _write_header(pixels, len(seen), side)
    return side


def _write_header(file: BinaryIO, count: int, side: int) -> None:
    """NumPy pads the header, so its length does not depend on `count`."""
    layout = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 1)}
    np.lib.format.write_array_header_1_0(file, layout)


def _rows(
    split: str,
    images: ImageSet,
    class_names: tuple[str, ...],
    patient_key: bytes,
    headers: Mapping[str, Header],
) -> Iterator[Row]:
    halves = np.where(in_half_a(images), "A", "B").tolist()
    paths = images.files or ("",) * len(images)
    keyed_hash = functools.partial(hashlib.blake2b, key=patient_key, digest_size=16)
    pixels = np.asarray(images.images)  # its items are cheaper than those of a memmap
    for image, label, id_, patient, half, path in zip(
        pixels,
        images.labels.tolist(),
        images.ids,
        keys_of(images),
        halves,
        paths,
        strict=True,
    ):
        if not 0 <= label < len(class_names):
            raise ValueError(
                f"{id_!r}: the label {label} is not one of {len(class_names)} classes"
            )
        header = headers.get(id_, NO_HEADER)
        hashed = "" if patient == id_ else keyed_hash(patient.encode()).hexdigest()
        yield Row(
            id=id_,
            label=str(label),
            class_name=class_names[label],
            patient=hashed,
            split=split,
            half=half,
            file=path,
            sha256=hashlib.sha256(image.tobytes()).hexdigest(),
            kind=header.kind,
            height=str(header.height or ""),
            width=str(header.width or ""),
            bits=str(header.bits or ""),
            view=header.view,
            modality=header.modality,
            manufacturer=header.manufacturer,
        )


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
    if _sha256_of_file(folder / INDEX) != expected.index_sha256:
        raise _changed(folder / INDEX)
    train, val = _map(folder, resolution)
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


def _map(folder: Path, side: int) -> tuple[ImageSet, ImageSet]:
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


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
