"""Writes prepared sets; for their files, see `prepared`."""

import contextlib
import csv
import dataclasses
import functools
import glob
import hashlib
import json
import os
import secrets
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cxr_gan.data.dataset import ImageSet, Summary, identity
from cxr_gan.data.formats.prepared import (
    DATASET,
    IMAGES,
    INDEX,
    SPLITS,
    VERSION,
    Description,
    Row,
    map_images,
    sha256_of_file,
)
from cxr_gan.data.listing import Header
from cxr_gan.data.patients import keys_of
from cxr_gan.data.splits import in_half_a
from cxr_gan.storage import files

IGNORED = (
    "# Images of patients and the names of their files must not be committed.\n*\n"
)
NO_HEADER = Header("", 0, 0, 0)


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
                identity=identity(*map_images(unfinished, side), class_names),
                index_sha256=sha256_of_file(unfinished / INDEX),
                notes=notes,
                source=source,
                summary=summary or {},
            )
            text = json.dumps(dataclasses.asdict(description), indent=2)
            (unfinished / DATASET).write_text(f"{text}\n", "utf-8")
            write_ignore_file(unfinished)
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def write_ignore_file(folder: Path) -> None:
    """Keeps git from adding the folder."""
    (folder / ".gitignore").write_text(IGNORED, "utf-8")


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
