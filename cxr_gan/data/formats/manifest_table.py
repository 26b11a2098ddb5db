"""Reads a manifest as a table of texts: .csv, .tsv, .txt or .parquet."""

import codecs
import csv
import dataclasses
import importlib
import io
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "null"})  # lower case
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Types of Parquet columns that hold images or records.
NOT_TEXT = ("struct", "map", "binary", "large_binary", "fixed_size_binary", "extension")


@dataclasses.dataclass(frozen=True)
class Table:
    """A manifest in memory; every value is a text, so "0012" stays "0012"."""

    path: Path
    names: tuple[str, ...]  # of the columns; "1", "2", ... if it has no header
    columns: tuple[Sequence[str], ...]  # the values of each, one for each row
    has_header: bool = True

    def values(self, index: int) -> list[str]:
        """The values of a column without blanks around them; "" where missing."""
        stripped = [value.strip() for value in self.columns[index]]
        return ["" if value.lower() in MISSING else value for value in stripped]

    def chosen(self, mask: Sequence[bool]) -> "Table":
        """The table of the rows where the mask is true."""
        columns = tuple(list(itertools.compress(c, mask)) for c in self.columns)
        return dataclasses.replace(self, columns=columns)


def read(path: Path, is_header: Callable[[list[str]], bool]) -> Table:
    """Reads all rows; blank lines are skipped.

    A text file is UTF-8, or UTF-16 with a byte order mark. Of "," ";" and tab, the
    delimiter is the one that is most frequent in the first line. A .txt file whose
    first line has none of them is divided at blanks.

    Args:
        path: an existing file that ends in one of SUFFIXES.
        is_header: whether the first row of a text file names its columns.

    Raises:
        ValueError: the file is empty, is damaged, is not text in these encodings, or
            has rows of unequal length; names the file and the line.
        ImportError: a .parquet file, and pyarrow is not installed.
    """
    if path.suffix.lower() == ".parquet":
        table = _read_parquet(path)
    else:
        rows = _rows(path)
        names = [name.strip() for name in rows[0]] if rows else []
        has_header = bool(rows) and is_header(names)
        if has_header:
            del rows[0]
        else:
            names = [str(number + 1) for number in range(len(names))]
        # Delimiters at the end of a row need none at the end of the first.
        columns = tuple(itertools.islice(zip(*rows, strict=False), len(names)))
        table = Table(path, tuple(names), columns, has_header)
    if not table.columns or not table.columns[0]:
        raise ValueError(f"{path}: has no rows; it needs one for each image")
    return table


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        ValueError: it is in another encoding, or no text; names the line.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
        if "\0" not in text:
            return text
        fault = "has NUL bytes"
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        fault = f"line {line} is not {encoding.removesuffix('-sig').upper()}"
    raise ValueError(
        f"{path}: {fault}; export a spreadsheet as CSV, unpack an archive, and convert "
        "other text, such as by: iconv -f LATIN1 -t UTF-8 OLD > NEW"
    )


def _rows(path: Path) -> list[list[str]]:
    text = read_text(path)
    first_line = next(iter(text.strip("\r\n").splitlines()), "")
    outside_quotes = re.sub(r'"[^"]*"', "", first_line)
    delimiter = max(",;\t", key=outside_quotes.count)
    if path.suffix.lower() == ".txt" and delimiter not in outside_quotes:
        delimiter = " "
    source = io.StringIO(text, newline="")
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    try:
        for row in filter(any, reader):
            width = len(rows[0]) if rows else len(row)
            if len(row) < width or any(map(str.strip, row[width:])):
                raise ValueError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, the first "
                    f"line has {width}; put quotes around a value that contains "
                    f"{delimiter!r}"
                )
            rows.append(row)
    except csv.Error as error:
        raise ValueError(
            f"{path}: cannot read the row that ends at line {reader.line_num} "
            f"({error}); check its quotes"
        ) from error
    return rows


def _read_parquet(path: Path) -> Table:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            f"{path}: Parquet files need pyarrow; type: pip install pyarrow"
        ) from error
    try:
        fields = parquet.read_schema(path)
        names = [f.name for f in fields if not str(f.type).startswith(NOT_TEXT)]
        columns = parquet.read_table(path, columns=names).columns
    except (ValueError, OSError) as error:  # those of pyarrow are among them
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: is no Parquet file, or a damaged one ({reason}); write it again"
        ) from error
    if not names:
        raise ValueError(
            f"{path}: has no column of texts or numbers; images inside a Parquet file "
            "are not read: write each to a file, and a column with their names"
        )
    texts = tuple([_text(value) for value in column.to_pylist()] for column in columns)
    return Table(path, tuple(names), texts)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(map(_text, value))
    return "" if value is None else str(value)
