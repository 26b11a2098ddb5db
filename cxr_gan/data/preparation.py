"""Reads the files of a listing into a prepared set, in parallel and in bounded memory.

Every file is inspected, decoded and checked before the set is written. Decoded images
are kept in chunks beside the set until it is complete: an interrupted reading
continues, and a repaired file costs one chunk. Memory holds a few chunks of images, and
a few kilobytes for each file.
"""

import collections
import dataclasses
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cxr_gan.data import decoding, duplicates, patients, quality, splits
from cxr_gan.data.chunks import DecodedImages
from cxr_gan.data.dataset import ImageSet, RawSplits, check_classes
from cxr_gan.data.decoding import Table
from cxr_gan.data.formats import decode, prepared, prepared_writer
from cxr_gan.data.listing import Header, Listing, ReadOptions, typed
from cxr_gan.storage import files, lock

SHOWN_FAULTS = 20  # in one error
PATIENTS_BY = "patients by"  # of a summary: how the patients of the images were found


def prepare(
    listing: Listing,
    resolution: int,
    folder: Path,
    *,
    split_seed: int,
    options: ReadOptions,
    source: str = "",
) -> None:
    """Writes the images of a listing as a prepared set.

    Args:
        listing: the files of the data set.
        resolution: height and width of the images in px.
        folder: of the prepared set; does not exist, or is empty.
        split_seed: seed of the choice of held-out images; see `splits.held_out`.
        options: which views to read, how patients are named, and what to do about
            images that cannot be used.
        source: stored in the set, see `prepared.Description`.

    Raises:
        ValueError: the pattern of the patients cannot be used; some images cannot be
            used (names all of them; not raised if
            options.on_error is "skip"), or the rest cannot be trained on.
        ImportError: a decoder is missing; says what to install.
        FileExistsError: the folder is not empty; another process may have written the
            set meanwhile.
        lock.InUseError: another process prepares the same set.
        files.DiskError: the folder cannot be written, or the disk has too little space.
    """
    patients.match([entry.file for entry in listing.entries], options.patient_pattern)
    chunk_folder = decoding.chunk_folder_of(folder)
    with files.translate_os_errors(folder):
        chunk_folder.mkdir(parents=True, exist_ok=True)
    with lock.acquire(chunk_folder):
        try:
            prepared_writer.require_new(folder)
            prepared_writer.remove_unfinished(folder)
            with files.translate_os_errors(folder):
                prepared_writer.write_ignore_file(chunk_folder)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                table = decoding.inspect(listing, options, pool)
                decoding.check_space(table.headers, resolution, folder)
                decoded = decoding.decode(
                    table, listing.root, resolution, chunk_folder, pool
                )
            _write(
                listing, table, decoded, resolution, folder, split_seed, options, source
            )
        finally:
            # Within the lock, so that no other process uses them any more.
            is_complete = (folder / prepared.DATASET).is_file()
            if is_complete or not any(chunk_folder.glob("*.npz")):
                shutil.rmtree(chunk_folder, ignore_errors=True)


def check_images(raw: RawSplits, where: str, split_seed: int) -> RawSplits:
    """Checks images in memory as `prepare` does those of files, and splits them.

    Args:
        raw: the images.
        where: names the dataset in errors.
        split_seed: as in `prepare`.

    Raises:
        ValueError: images are black, white or constant, or cannot be trained on.
    """
    parts = [raw.train, *([raw.val] if raw.val else [])]
    measured = [quality.measure(image) for part in parts for image in part.images]
    ids = [id_ for part in parts for id_ in part.ids]
    faults = [
        f"{id_}: {fault}"
        for id_, found in zip(ids, measured, strict=True)
        if (fault := quality.fault(found))
    ]
    if faults:
        raise ValueError(f"{describe_faults(where, faults)}\nrepair or remove them")
    labels = np.concatenate([part.labels for part in parts])
    _check_counts(
        labels, np.arange(len(labels)) >= len(raw.train), raw.class_names, where
    )
    train, val, notes = splits.split_train_val(raw, split_seed)
    warnings = quality.warnings(measured, labels, raw.class_names, ids)
    digests = [duplicates.digest(image) for part in parts for image in part.images]
    copies = duplicates.warnings(digests, labels, raw.class_names, ids)
    return RawSplits(
        train,
        val,
        raw.class_names,
        (*raw.notes, *warnings, *copies, *notes),
        is_split=True,
        summary={
            "train": _count(raw.class_names, train.labels),
            "val": _count(raw.class_names, val.labels),
            PATIENTS_BY: patients.count_by_name(ids),
        },
    )


def _write(
    listing: Listing,
    table: Table,
    decoded: DecodedImages,
    resolution: int,
    folder: Path,
    split_seed: int,
    options: ReadOptions,
    source: str,
) -> None:
    """Checks the decoded images, and writes those that can be used."""
    used, measured, digests = _check_pixels(table, decoded)
    if table.faults and options.on_error == "stop":
        raise ValueError(
            f"{describe_faults(listing.root, table.faults)}\nrepair or remove "
            f"them, or leave them out by {typed('on_error', 'skip')}"
        )
    rows = np.flatnonzero(used)
    entries = [table.entries[row] for row in rows]
    headers = [table.headers[row] for row in rows]
    names = tuple(sorted({entry.class_name for entry in listing.entries}))
    ids = tuple(entry.file for entry in entries)
    labels = np.array([names.index(entry.class_name) for entry in entries], np.int32)
    was_val = np.array([entry.split == "val" for entry in entries], bool)
    left_out = dict(table.left_out)
    if table.faults:
        left_out["damaged, black, white or constant"] = len(table.faults)
    _check_counts(labels, was_val, names, listing.root, left_out)
    found = patients.decide(entries, headers, options.patient_pattern)
    is_val, split_notes = splits.held_out(
        labels, found.keys, was_val, names, split_seed
    )
    unknown = [id_ for id_, known in zip(ids, found.known, strict=True) if not known]
    if unknown and (is_val != was_val).any():
        note = patients.note_of_unknown(unknown, len(ids))
        pattern = typed("patient_pattern", "REGEX")
        split_notes.append(f"{note}. {pattern} tells another")
    bits = [decoded.bits[row] for row in rows]
    notes = (
        *listing.notes,
        *(f"left out {count}: {reason}" for reason, count in left_out.items()),
        *decode.notes(bits, [decoded.outcomes[row].side for row in rows], resolution),
        *quality.warnings(measured, labels, names, ids, bits),
        *duplicates.warnings(digests, labels, names, ids),
        *found.notes,
        *split_notes,
    )
    summary = {
        "train": _count(names, labels[~is_val]),
        "val": _count(names, labels[is_val]),
        "left out": left_out,
        PATIENTS_BY: found.how,
        "kinds": _kinds(headers, bits),
    }
    known = ImageSet(
        np.zeros((len(ids), 1, 1, 1), np.uint8),  # in place of the pixels
        labels,
        ids,
        ids,
        found.keys,
        tuple(np.where(splits.keys_in_half_a(found.keys), "A", "B").tolist()),
    )
    parts = (("train", ~is_val), ("val", was_val), ("val", is_val & ~was_val))
    batches = (
        (split, images)
        for split, chosen in parts
        for images in _image_sets(decoded, known, rows, chosen)
    )
    prepared_writer.write(
        folder,
        names,
        batches,
        notes,
        source=source,
        summary=summary,
        headers={
            id_: dataclasses.replace(
                header,
                view=entry.view or header.view,
                bits=header.bits if header.kind == "DICOM" else depth,
            )
            for id_, entry, header, depth in zip(
                ids, entries, headers, bits, strict=True
            )
        },
    )


def _image_sets(
    decoded: DecodedImages, known: ImageSet, rows: np.ndarray, chosen: np.ndarray
) -> Iterator[ImageSet]:
    """The images of a part, chunk by chunk.

    Args:
        decoded: the pixels.
        known: all but the pixels of n images.
        rows: of these images in `decoded`, int [n], ascending.
        chosen: bool [n].
    """
    wanted = np.zeros(len(decoded.outcomes), bool)
    wanted[rows[chosen]] = True
    for of_chunk, images in decoded.batches(wanted):
        at = np.searchsorted(rows, of_chunk).tolist()
        texts = (known.ids, known.files, known.patients, known.halves)
        yield ImageSet(
            images, known.labels[at], *(tuple(of[i] for i in at) for of in texts)
        )


def _check_pixels(
    table: Table, decoded: DecodedImages
) -> tuple[np.ndarray, list[quality.Measurement], list[bytes]]:
    """Which rows can be used, bool [n]; and the measurements and digests of those.

    Adds a fault for each other image that was decoded.
    """
    used = np.array([not outcome.problem for outcome in decoded.outcomes], bool)
    measured: list[quality.Measurement] = []
    digests: list[bytes] = []
    for rows, images in decoded.batches(used.copy()):
        for row, image in zip(rows.tolist(), images, strict=True):
            found = quality.measure(image)
            fault = quality.fault(found)
            if fault:
                table.faults.append(f"{table.entries[row].path}: {fault}")
                used[row] = False
            else:
                measured.append(found)
                digests.append(duplicates.digest(image))
    return used, measured, digests


def describe_faults(root: object, faults: Sequence[str]) -> str:
    """The text of an error that lists images, from a sentence about each."""
    shown = "\n  ".join(faults[:SHOWN_FAULTS])
    more = len(faults) - SHOWN_FAULTS
    rest = f"\n  and {more} others" if more > 0 else ""
    images = "image" if len(faults) == 1 else "images"
    return f"{root}: {len(faults)} {images} cannot be used:\n  {shown}{rest}"


def _check_counts(
    labels: np.ndarray,
    in_val: np.ndarray,
    names: tuple[str, ...],
    root: object,
    left_out: dict[str, int] | None = None,
) -> None:
    counts = [
        np.bincount(labels[part], minlength=len(names)) for part in (~in_val, in_val)
    ]
    try:
        check_classes(names, counts[0], counts[1] if in_val.any() else None, str(root))
    except ValueError as error:
        counted = (left_out or {}).items()
        reasons = "".join(f"; left out {n}: {what}" for what, n in counted)
        raise ValueError(f"{error}{reasons}") from None


def _count(names: Sequence[str], labels: np.ndarray) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def _kinds(headers: Sequence[Header], bits: Sequence[int]) -> dict[str, int]:
    """Number of files by kind and depth, and of those with an EXIF orientation."""
    kinds = collections.Counter(
        f"{header.kind} of {header.bits if header.kind == 'DICOM' else depth} bits"
        for header, depth in zip(headers, bits, strict=True)
    )
    turned = sum(header.turned for header in headers)
    return {**kinds, **({"turned by their EXIF orientation": turned} if turned else {})}
