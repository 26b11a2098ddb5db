"""The rows of one manifest that are used, and what each says of its file."""

import collections
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr_gan.data.formats import (
    manifest_columns,
    manifest_labels,
    manifest_splits,
    manifest_table,
    row_filter,
)
from cxr_gan.data.formats.manifest_columns import Columns
from cxr_gan.data.formats.manifest_table import Table
from cxr_gan.data.listing import ReadOptions

NOT_CHOSEN = "not chosen by manifest.where"
LATERAL = "a lateral view"
_LATERAL = frozenset({"lat", "l", "ll", "rl"})


class Row(NamedTuple):
    """One row that is used."""

    name: str  # of its file, as the manifest has it
    labels: manifest_labels.Labels
    patient: str
    split: str  # "train" or "val"; "" where only the folder of the file may tell
    view: str
    line: int


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
    views = _views(table, columns.view)
    chosen: Sequence[int] = range(len(table.lines))
    if wanted.where:
        column = _column_reader(table, columns, views)
        mask = row_filter.select(wanted.where, column, len(table.lines))
        chosen = [row for row in chosen if mask[row]]
        left_out[NOT_CHOSEN] += len(mask) - len(chosen)
    names = table.values(columns.file)
    of_chosen = [names[row] for row in chosen]
    if columns.split is not None:
        splits = manifest_splits.of_words(table, columns.split, chosen)
    elif "=" in wanted.split:
        lists = manifest_splits.read_lists(wanted.split, path.parent)
        splits = manifest_splits.of_lists(of_chosen, lists)
    else:
        splits = [split or manifest_splits.of_name(name) for name in of_chosen]
    labels = manifest_labels.read(table, columns.labels, chosen)
    patients = _values(table, columns.patient)
    rows = []
    for row, of_row, of_labels in zip(chosen, splits, labels, strict=True):
        if of_row == "test":
            left_out[manifest_splits.TEST] += 1
        elif of_row == manifest_splits.IN_NO_LIST:
            left_out[of_row] += 1
        elif options.views == "frontal" and is_lateral(views[row]):
            left_out[LATERAL] += 1
        else:
            line = table.lines[row]
            if not names[row]:
                raise ValueError(
                    f"{path}: line {line} names no file in column "
                    f"{table.names[columns.file]!r}; choose rows by manifest.where"
                )
            name = names[row]
            if folder:
                name = os.path.join(folder, name)  # noqa: PTH118, for speed
            rows.append(Row(name, of_labels, patients[row], of_row, views[row], line))
    return rows


@functools.cache
def is_lateral(view: str) -> bool:
    """Whether a view, as a manifest has it, is lateral."""
    word = manifest_columns.normalise(view)
    return word in _LATERAL or ("lateral" in word and "decubitus" not in word)


def _values(table: Table, column: int | None) -> list[str]:
    return [""] * len(table.lines) if column is None else table.values(column)


def _views(table: Table, columns: Sequence[int]) -> list[str]:
    """The view of each row: of CheXpert's AP/PA if it is frontal and that is known."""
    if len(columns) < 2:
        return _values(table, columns[0] if columns else None)
    pairs = zip(*(table.values(column) for column in columns), strict=True)
    return [kind if is_lateral(kind) else view or kind for kind, view in pairs]


def _column_reader(
    table: Table, columns: Columns, views: list[str]
) -> Callable[[str], list[str]]:
    """Column name -> values; a name that no column has may be that of a role."""
    label = columns.labels[0] if len(columns.labels) == 1 else None
    roles = {
        "file": columns.file,
        "label": label,
        "patient": columns.patient,
        "split": columns.split,
    }
    known = {manifest_columns.normalise(name) for name in table.names}

    def values(name: str) -> list[str]:
        if name not in table.names and manifest_columns.normalise(name) not in known:
            if name == "view" and columns.view:
                return views
            index = roles.get(name)
            if index is not None:
                return table.values(index)
        return table.values(manifest_columns.find_named(table, name))

    return values
