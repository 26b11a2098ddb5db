"""Finds the split of each row of a manifest."""

import collections
import functools
from collections.abc import Sequence
from pathlib import Path

from cxr_gan.data import split_words
from cxr_gan.data.formats.manifest_columns import flag
from cxr_gan.data.formats.manifest_labels import parse_map
from cxr_gan.data.formats.manifest_table import Table
from cxr_gan.storage import files

TEST = "of a test split"
IN_NO_LIST = "in no list of manifest.split"


def of_words(table: Table, column: int, rows: Sequence[int]) -> list[str]:
    """The splits that a column names in these rows: "train", "val" or "test".

    Raises:
        ValueError: a word, or a blank, names no split; lists those words.
    """
    values = table.values(column)
    words = collections.Counter(values[row] for row in rows)
    splits = {word: split_words.split_of(word) for word in words}
    unknown = [word for word in words if not splits[word]]
    if unknown:
        shown = ", ".join(f"{word!r} ({words[word]} rows)" for word in unknown[:10])
        raise ValueError(
            f"{table.path}: column {table.names[column]!r} names the splits {shown}; "
            f"accepted are {split_words.ACCEPTED}: choose rows by manifest.where, or "
            f"another column by {flag('split', 'COLUMN')}, where 'none' is no column"
        )
    return [splits[values[row]] or "" for row in rows]


def _read_lists(option: str, folder: Path) -> dict[str, str]:
    """File name -> split, of "train=train_val_list.txt,test=test_list.txt".

    The lists hold one file name a line. Their paths are relative to `folder`.

    Raises:
        FileNotFoundError: a list does not exist.
        ValueError: an item is no SPLIT=LIST, a list is not UTF-8, or a name is in the
            lists of two splits.
    """
    # One split may have several lists, so the map goes from the list to the split.
    found: dict[str, str] = {}
    for word, value in parse_map(option, "split").items():
        split = split_words.split_of(word)
        path = folder / files.expand_user(value, "manifest.split")
        if split is None:
            raise ValueError(
                f"manifest.split={option!r}: {word!r} names no split; accepted are "
                f"{split_words.ACCEPTED}"
            )
        if not path.is_file():
            raise FileNotFoundError(
                f"manifest.split={option!r}: there is no file {path}; check the path"
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not UTF-8; save it as UTF-8") from error
        for line in lines:
            name = _name(line)
            if name and found.setdefault(name, split) != split:
                raise ValueError(
                    f"{path}: {name!r} is also in the list of {found[name]}; one file "
                    "must be in one split"
                )
    return found


def of_names(names: Sequence[str], option: str, folder: Path, of_all: str) -> list[str]:
    """The split of each file, where no column names it.

    Args:
        names: of the files.
        option: "train=a.txt,test=b.txt", if there are lists of files. A file that is in
            none is IN_NO_LIST.
        folder: that of the lists.
        of_all: the split of all files, or "" if only their folders may name it.
    """
    if "=" in option:
        lists = _read_lists(option, folder)
        return [lists.get(_name(name), IN_NO_LIST) for name in names]
    return [of_all or of_name(name) for name in names]


def of_name(name: str) -> str:
    """The split that a folder of a relative path names; "" if none does."""
    return "" if name.startswith("/") else _of_folder(name.rpartition("/")[0])


@functools.cache
def _of_folder(path: str) -> str:
    """The split that the first folder with such a word names; "" if none does."""
    return next(filter(None, map(split_words.split_of, path.split("/"))), "")


def _name(path: str) -> str:
    return path.strip().replace("\\", "/").rpartition("/")[2]
