"""Manifests: a table with a row for each image, or a folder with metadata.csv."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cxr_gan.data import split_words
from cxr_gan.data.formats import (
    manifest_files,
    manifest_labels,
    manifest_rows,
    manifest_splits,
    manifest_table,
)
from cxr_gan.data.formats.manifest_columns import NONE, flag
from cxr_gan.data.formats.manifest_rows import Row
from cxr_gan.data.listing import Entry, Listing, ReadOptions, typed
from cxr_gan.storage import files

METADATA = "metadata.csv"  # of a folder that Hugging Face's imagefolder reads
REPEATED = "a repeated row of a file"
NOT_FOUND = "a file that was not found"
MAX_SHOWN = 5  # files in a message


def open_manifest(location: str, options: ReadOptions) -> Listing:
    """Lists the images that a manifest names, without opening any.

    The manifest is a file that ends in .csv, .tsv, .txt or .parquet (see
    `manifest_table.read`), or a folder with metadata.csv, or with one in each folder
    of a split. For its columns, see `manifest_columns.find`; for the condition
    `where`, `row_filter.select`; for labels and classes, `manifest_labels`; for where
    files are searched, `manifest_files.find`.

    The split is that of the column, or of the lists in `options.manifest.split`
    ("train=a.txt,test=b.txt"), or of the first folder of the file that has the name of
    a split; otherwise it is train. With `options.manifest.split` "none", val is read as
    train. Rows of a test split are counted, never listed; so are lateral views, unless
    `options.views` is "all". Rows of one file with the same class, split and patient,
    who may be missing in some, are one entry.

    Args:
        location: path of the manifest or folder; ~ is expanded.
        options: `views`, `on_error` (of files that are not found) and `manifest`.

    Raises:
        FileNotFoundError: the manifest or the folder of the images does not exist.
        ValueError: the manifest cannot be read in this way, a file is not found or not
            unique, rows of one file disagree, or nothing is left of train.
        ImportError: a .parquet file, and pyarrow is not installed.
    """
    path = files.expand_user(location, "dataset")
    manifests = _manifests(path)
    root = path if path.is_dir() else path.parent
    if options.manifest.images:
        root = files.expand_user(options.manifest.images, "manifest.images")
        if not root.is_dir():
            raise FileNotFoundError(
                f"manifest.images={options.manifest.images}: no such folder; check it"
            )
    left_out: collections.Counter[str] = collections.Counter()
    rows: list[Row] = []
    for file, split in manifests:
        folder = file.parent.name if path.is_dir() and split else ""
        folder = "" if options.manifest.images else folder
        rows += manifest_rows.read(file, folder, split, options, left_out)
    labels = [row.labels for row in rows]
    classes, reasons = manifest_labels.classify(
        labels, options.manifest.classes, str(path)
    )
    left_out.update(filter(None, reasons))
    rows = list(itertools.compress(rows, classes))
    paths = _find_files([row.name for row in rows], root, options, path)
    names = list(filter(None, classes))
    entries = _entries(path, root, rows, names, paths, left_out)
    if options.manifest.split == NONE:
        entries = [dataclasses.replace(entry, split="train") for entry in entries]
    left_out = +left_out  # without those that are 0
    counts = ", ".join(f"{reason} ({n} rows)" for reason, n in left_out.items())
    if not any(entry.split == "train" for entry in entries):
        raise ValueError(
            f"{path}: no image of train is left; {len(entries)} are of val, and left "
            f"out are: {counts or 'none'}"
        )
    if lost := set(names) - {entry.class_name for entry in entries}:
        raise ValueError(
            f"{path}: no image of class {min(lost)!r} is left; left out are: {counts}; "
            f"add some, or choose the other classes by {flag('classes', 'LABEL=CLASS')}"
        )
    entries.sort(key=lambda e: (e.split == "val", e.class_name, e.file))
    return Listing(root, tuple(entries), dict(left_out))


def is_metadata_folder(path: Path) -> bool:
    """Whether a folder has metadata.csv, or one in a folder of a split."""
    return (path / METADATA).is_file() or bool(_split_manifests(path))


def _split_manifests(folder: Path) -> list[tuple[Path, str]]:
    """metadata.csv in the folders that are named as splits, and their splits."""
    found = []
    for file in sorted(folder.glob(f"*/{METADATA}")):
        split = split_words.split_of(file.parent.name)
        if split and file.is_file():
            found.append((file, split))
    return found


def _manifests(path: Path) -> list[tuple[Path, str]]:
    """The files to read, and the split of those of a folder of a split."""
    if path.is_file():
        if path.suffix.lower() not in manifest_table.SUFFIXES:
            raise ValueError(
                f"{path}: is no manifest; its name must end in one of "
                f"{', '.join(manifest_table.SUFFIXES)}: save the table as CSV in UTF-8"
            )
        return [(path, "")]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such manifest; check the path")
    of_splits = _split_manifests(path)
    if not (path / METADATA).is_file():
        if not of_splits:
            raise FileNotFoundError(
                f"{path}: has no {METADATA}, and none in a folder train; give the path "
                "of the manifest itself"
            )
        return of_splits
    if of_splits:
        raise ValueError(
            f"{path}: has both {METADATA} and {of_splits[0][0]}; give the path of one "
            "of them"
        )
    return [(path / METADATA, "")]


def _find_files(
    names: list[str], root: Path, options: ReadOptions, manifest: Path
) -> dict[str, str]:
    """Name -> path; without those not found if `options.on_error` is "skip"."""
    found = manifest_files.find(names, root)
    if found.ambiguous:
        shown = ", ".join(
            f"{name!r} ({first}, {second})"
            for name, (first, second) in list(found.ambiguous.items())[:MAX_SHOWN]
        )
        raise ValueError(
            f"{manifest}: {len(found.ambiguous)} names fit several files in {root}: "
            f"{shown}; give the folder of the right ones by {flag('images', 'FOLDER')}"
        )
    if found.missing and options.on_error != "skip":
        shown = ", ".join(map(repr, found.missing[:MAX_SHOWN]))
        similar = f"; there is {found.similar!r}" if found.similar else ""
        raise ValueError(
            f"{manifest}: {len(found.missing)} of {len(set(names))} files are not "
            f"found, neither as given from {root} nor by name among the "
            f"{found.searched} files in it: {shown}{similar}; give their folder by "
            f"{flag('images', 'FOLDER')}, or leave them out by "
            f"{typed('on_error', 'skip')}"
        )
    return found.paths


def _entries(
    manifest: Path,
    root: Path,
    rows: Sequence[Row],
    classes: Iterable[str],
    paths: dict[str, str],
    left_out: collections.Counter[str],
) -> list[Entry]:
    """One entry for each file.

    Args:
        manifest: for messages.
        root: the folder of the images.
        rows: those that have a class.
        classes: of each row.
        paths: name of a row -> path; rows without a path are counted.
        left_out: reason -> number of rows; is added to.
    """
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    conflicts: dict[str, str] = {}
    starts = [f"{folder}{os.sep}" for folder in (root, root.absolute())]
    for row, class_name in zip(rows, classes, strict=True):
        if row.name not in paths:
            left_out[NOT_FOUND] += 1
            continue
        path = paths[row.name]
        start = next(filter(path.startswith, starts), "")
        file = path[len(start) :].replace(os.sep, "/")  # all of it if not below root
        split = row.split or manifest_splits.of_name(file) or "train"
        if split == "test":
            left_out[manifest_splits.TEST] += 1
            continue
        if file not in entries:
            entries[file] = Entry(
                Path(path), file, class_name, split, row.patient, row.view
            )
            lines[file] = row.line
            continue
        left_out[REPEATED] += 1
        first = entries[file]
        patient = first.patient or row.patient
        entries[file] = dataclasses.replace(first, patient=patient)
        mine = (class_name, split, row.patient or patient)
        if mine != (first.class_name, first.split, patient):
            conflicts.setdefault(file, f"lines {lines[file]} and {row.line}")
    if conflicts:
        shown = ", ".join(
            f"{file!r} ({where})" for file, where in list(conflicts.items())[:MAX_SHOWN]
        )
        raise ValueError(
            f"{manifest}: {len(conflicts)} files have rows that differ in class, split "
            f"or patient: {shown}; correct them, or choose rows by manifest.where"
        )
    return list(entries.values())
