"""Manifests: a table with a row for each image, or a folder with metadata.csv."""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from cxr_gan.data import split_words
from cxr_gan.data.formats import (
    manifest_files,
    manifest_labels,
    manifest_rows,
    manifest_table,
)
from cxr_gan.data.formats.file_tree import TEST
from cxr_gan.data.formats.manifest_columns import NONE, flag, listed
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
    `options.views` is "all". Rows of one file with the same class, split and patient
    are one entry.

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
    root = path if path.is_dir() else path.parent
    if options.manifest.images:
        root = files.expand_user(options.manifest.images, "manifest.images")
    if not root.is_dir():
        raise FileNotFoundError(
            f"manifest.images={options.manifest.images}: no such folder; check the path"
        )
    left_out: collections.Counter[str] = collections.Counter()
    rows: list[Row] = []
    for file, split in _manifests(path):
        folder = file.parent.name if split and not options.manifest.images else ""
        rows += manifest_rows.read(file, folder, split, options, left_out)
    labels = [row.labels for row in rows]
    classes = manifest_labels.classify(labels, options.manifest.classes, str(path))
    left_out.update(reason for _, reason in classes if reason)
    used = [(row, name) for row, (name, _) in zip(rows, classes, strict=True) if name]
    paths = _find_files([row.name for row, _ in used], root, options, path)
    left_out[NOT_FOUND] += sum(not paths[row.name] for row, _ in used)
    found = [(row, name) for row, name in used if paths[row.name]]
    entries = _entries(path, root, found, paths, left_out)
    if options.manifest.split == NONE:
        entries = [dataclasses.replace(entry, split="train") for entry in entries]
    left_out = +left_out  # without those that are 0
    counts = ", ".join(f"{reason} ({n} rows)" for reason, n in left_out.items())
    if not any(entry.split == "train" for entry in entries):
        raise ValueError(
            f"{path}: no image of train is left; {len(entries)} are of val, and left "
            f"out are: {counts or 'none'}"
        )
    if lost := {name for _, name in used} - {entry.class_name for entry in entries}:
        raise ValueError(
            f"{path}: no image of class {min(lost)!r} is left; left out are: {counts}; "
            f"add some, or choose the other classes by {flag('classes', 'LABEL=CLASS')}"
        )
    entries.sort(key=lambda e: (e.split == "val", e.class_name, e.file))
    return Listing(root, tuple(entries), dict(left_out))


def is_metadata_folder(path: Path) -> bool:
    """Whether a folder has metadata.csv, or one in a folder of a split."""
    return bool(_metadata(path))


def _metadata(folder: Path) -> list[tuple[Path, str]]:
    """metadata.csv in a folder, and in those of splits, each with the split."""
    found = [(folder / METADATA, "")]
    for file in sorted(folder.glob(f"*/{METADATA}")):
        if split := split_words.split_of(file.parent.name):
            found.append((file, split))
    return [(file, split) for file, split in found if file.is_file()]


def _manifests(path: Path) -> list[tuple[Path, str]]:
    """The files to read, and the split of those of a folder of a split."""
    if path.is_file():
        if path.suffix.lower() not in manifest_table.SUFFIXES:
            raise ValueError(
                f"{path}: is no manifest; its name must end in one of "
                f"{', '.join(manifest_table.SUFFIXES)}: save the table as CSV in UTF-8"
            )
        return [(path, "")]
    manifests = _metadata(path)
    if not manifests:
        raise FileNotFoundError(
            f"{path}: no such manifest, or a folder without {METADATA}; check the path"
        )
    return manifests


def _find_files(
    names: list[str], root: Path, options: ReadOptions, manifest: Path
) -> dict[str, str]:
    """Name -> path; "" for those not found if `options.on_error` is "skip"."""
    found = manifest_files.find(names, root)
    several = [name for name, paths in found.items() if len(paths) > 1]
    if several:
        fit = " and ".join(os.path.relpath(path, root) for path in found[several[0]])
        raise ValueError(
            f"{manifest}: {len(several)} names fit several files in {root}, such as "
            f"{several[0]!r}: {fit}; give the folder of the right ones by "
            f"{flag('images', 'FOLDER')}"
        )
    missing = [name for name, paths in found.items() if not paths]
    if missing and options.on_error != "skip":
        raise ValueError(
            f"{manifest}: {len(missing)} of {len(found)} files are not found, neither "
            f"as given from {root} nor by name in the folders below it: "
            f"{listed(missing[:MAX_SHOWN])}; give their folder by "
            f"{flag('images', 'FOLDER')}, or leave them out by "
            f"{typed('on_error', 'skip')}"
        )
    return {name: paths[0] if paths else "" for name, paths in found.items()}


def _entries(
    manifest: Path,
    root: Path,
    rows: Sequence[tuple[Row, str]],
    paths: dict[str, str],
    left_out: collections.Counter[str],
) -> list[Entry]:
    """One entry for each file.

    Args:
        manifest: for messages.
        root: the folder of the images.
        rows: each with its class.
        paths: name of a row -> path.
        left_out: reason -> number of rows; is added to.
    """
    entries: dict[str, Entry] = {}
    conflicts: set[str] = set()
    starts = [f"{folder}{os.sep}" for folder in (root, root.absolute())]
    for row, class_name in rows:
        path = paths[row.name]
        start = next(filter(path.startswith, starts), "")
        file = path[len(start) :].replace(os.sep, "/")  # all of it if not below root
        split = row.split or manifest_rows.split_of_name(file) or "train"
        if split == "test":
            left_out[TEST] += 1
            continue
        entry = Entry(Path(path), file, class_name, split, row.patient, row.view)
        first = entries.setdefault(file, entry)
        if first is not entry:
            left_out[REPEATED] += 1
            if dataclasses.replace(entry, path=first.path, view=first.view) != first:
                conflicts.add(file)
    if conflicts:
        raise ValueError(
            f"{manifest}: {len(conflicts)} files have rows that differ in class, split "
            f"or patient: {listed(sorted(conflicts)[:MAX_SHOWN])}; correct them, or "
            "choose rows by manifest.where"
        )
    return list(entries.values())
