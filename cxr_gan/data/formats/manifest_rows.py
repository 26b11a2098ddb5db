"""The rows of one manifest that are used, and what each says of its file."""

import collections
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cxr_gan.data import split_words
from cxr_gan.data.formats import (
    manifest_columns,
    manifest_labels,
    manifest_table,
    row_filter,
)
from cxr_gan.data.formats.dicom import is_lateral
from cxr_gan.data.formats.file_tree import TEST
from cxr_gan.data.formats.manifest_columns import Columns, flag, listed, normalise
from cxr_gan.data.formats.manifest_table import Table
from cxr_gan.data.listing import ReadOptions
from cxr_gan.storage import files

NOT_CHOSEN = "not chosen by manifest.where"
LATERAL = "a lateral, decubitus or oblique view"  # as of a DICOM header
IN_NO_LIST = "in no list of manifest.split"


class Row(NamedTuple):
    """One row that is used."""

    name: str  # of its file, as the manifest has it
    labels: manifest_labels.Labels
    patient: str
    split: str  # "train" or "val"; "" where only the folder of the file may tell
    view: str


def read(
    path: Path,
    folder: str,
    split: str,
    options: ReadOptions,
    left_out: collections.Counter[str],
) -> list[Row]:
    """The rows that `where` chooses, but none of a test split or of a lateral view.

    Args:
        path: the manifest.
        folder: its folder relative to that of the images, which its names begin in.
        split: of all rows, if no column or list names another; "" if not known.
        options: `manifest`, and `views`.
        left_out: reason -> number of rows; those of this manifest are added.

    Raises:
        ValueError: see `manifest.open_manifest`.
    """
    wanted = options.manifest
    table = manifest_table.read(
        path, lambda row: manifest_columns.is_header(row, path.suffix.lower(), wanted)
    )
    columns = manifest_columns.find(table, wanted)
    if wanted.where:
        column = _column_reader(table, columns)
        mask = row_filter.select(wanted.where, column, len(columns.file))
        left_out[NOT_CHOSEN] += mask.count(False)
        columns = manifest_columns.find(table.chosen(mask), wanted)
    if not all(columns.file):
        raise ValueError(
            f"{path}: {columns.file.count('')} rows name no file; choose rows by "
            "manifest.where"
        )
    labels = manifest_labels.read(columns.labels, str(path))
    splits = _splits(columns, wanted.split, path, split)
    lateral = {view for view in set(columns.view) if is_lateral(view)}
    skipped = lateral if options.views == "frontal" else set()
    start = os.path.join(folder, "")  # noqa: PTH118, for speed
    rows = []
    for name, of_labels, patient, of_row, view in zip(
        columns.file, labels, columns.patient, splits, columns.view, strict=True
    ):
        if of_row == "test":
            left_out[TEST] += 1
        elif of_row == IN_NO_LIST:
            left_out[IN_NO_LIST] += 1
        elif view in skipped:
            left_out[LATERAL] += 1
        else:
            rows.append(Row(start + name, of_labels, patient, of_row, view))
    return rows


def split_of_name(name: str) -> str:
    """The split that a folder of a relative path names; "" if none does."""
    return "" if name.startswith("/") else _split_of_folder(name.rpartition("/")[0])


@functools.cache
def _split_of_folder(path: str) -> str:
    """The split that the first folder with such a word names; "" if none does."""
    return next(filter(None, map(split_words.split_of, path.split("/"))), "")


def _column_reader(table: Table, columns: Columns) -> Callable[[str], list[str]]:
    """Column name -> values; a name that no column has may be that of a role."""
    roles = {role: getattr(columns, role) for role in ("file", "patient", "split")}
    roles["view"] = columns.view
    if len(columns.labels) == 1:
        (roles["label"],) = columns.labels.values()
    known = {normalise(name) for name in table.names}

    def values(name: str) -> list[str]:
        if normalise(name) not in known and roles.get(name):
            return list(roles[name])
        return table.values(manifest_columns.find_named(table, name))

    return values


def _splits(columns: Columns, option: str, manifest: Path, of_all: str) -> list[str]:
    """The split of each row: "train", "val" or "test", or IN_NO_LIST.

    It is that of the column, or else of the lists in `option`, or else `of_all`,
    or else that of a folder of the file; "" where none of them names it.

    Raises:
        FileNotFoundError: a list does not exist.
        ValueError: a word names no split, a list cannot be read, or a name is in the
            lists of two splits.
    """
    if columns.split is not None:
        known = {word: split_words.split_of(word) for word in set(columns.split)}
        unknown = sorted(word for word, split in known.items() if not split)
        if unknown:
            raise ValueError(
                f"{manifest}: the column of splits has {listed(unknown)}; accepted are "
                f"{split_words.ACCEPTED}: choose rows by manifest.where, or another "
                f"column by {flag('split', 'COLUMN')}, where 'none' is no column"
            )
        return [known[word] or "" for word in columns.split]
    if "=" not in option:
        return [of_all or split_of_name(name) for name in columns.file]
    split_of: dict[str, str] = {}
    for word, value in manifest_labels.parse_map(option, "manifest.split").items():
        split = split_words.split_of(word)
        path = manifest.parent / files.expand_user(value, "manifest.split")
        if split is None or not path.is_file():
            raise ValueError(
                f"manifest.split={option!r}: {word!r} must be a split, one of "
                f"{split_words.ACCEPTED}, and {path} a file; check both"
            )
        for line in filter(str.strip, manifest_table.read_text(path).splitlines()):
            if split_of.setdefault(_file_name(line), split) != split:
                raise ValueError(
                    f"{path}: {_file_name(line)!r} is also in another list; one file "
                    "must be in one split"
                )
    return [split_of.get(_file_name(name), IN_NO_LIST) for name in columns.file]


def _file_name(path: str) -> str:
    return path.strip().replace("\\", "/").rpartition("/")[2]
