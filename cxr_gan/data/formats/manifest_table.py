"""Reads a manifest as a table of texts: .csv, .tsv, .txt or .parquet."""

import codecs
import csv
import dataclasses
import importlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "null"})  # lower case
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# First bytes of files that are often renamed to .csv, or whose .csv is inside.
OTHER_KINDS = {
    b"PK\x03\x04": "a spreadsheet (.xlsx) or a zip archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls)",
    b"\x1f\x8b": "compressed with gzip",
    b"PAR1": "a Parquet file; end its name in .parquet",
}
# Types of Parquet columns that hold images or records.
NOT_TEXT = ("struct", "map", "binary", "large_binary", "fixed_size_binary", "extension")


@dataclasses.dataclass(frozen=True)
class Table:
    """A manifest in memory; every value is a text, so "0012" stays "0012"."""

    path: Path
    names: tuple[str, ...]  # of the columns; "1", "2", ... if it has no header
    columns: tuple[Sequence[str], ...]  # the values of each, one for each row
    lines: Sequence[int]  # the line of each row in the file, from 1
    has_header: bool = True

    def values(self, index: int) -> list[str]:
        """The values of a column without blanks around them; "" where missing."""
        stripped = [value.strip() for value in self.columns[index]]
        return ["" if value.lower() in MISSING else value for value in stripped]


def read(path: Path, is_header: Callable[[list[str]], bool]) -> Table:
    """Reads all rows; blank lines are skipped.

    A text file is UTF-8, or UTF-16 with a byte order mark. Of "," ";" and tab, the
    delimiter is the one that divides the first line into most fields. A .txt file
    whose first line has none of them is divided at blanks.

    Args:
        path: an existing file that ends in one of SUFFIXES.
        is_header: whether the first row of a text file names its columns.

    Raises:
        ValueError: the file is empty, is damaged, is not text in these encodings, or
            has rows of unequal length; names the file and the line.
        ImportError: a .parquet file, and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    text = _decode(path)
    delimiter = _delimiter(text, blanks=suffix == ".txt")
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=True,
        strict=True,
    )
    rows, lines = [], []
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(
            f"{path}: cannot read the row that ends at line {reader.line_num} "
            f"({error}); check its quotes"
        ) from error
    if rows and [field.lower()[:4] for field in rows[0][:1]] == ["sep="]:
        del rows[0], lines[0]  # Excel's note of the delimiter
    if not rows:
        raise ValueError(f"{path}: is empty; it needs a row for each image")
    has_header = is_header([name.strip() for name in rows[0]])
    names = [name.strip() for name in rows[0]]
    if has_header:
        del rows[0], lines[0]
    else:
        names = [str(number + 1) for number in range(len(names))]
    if not rows:
        raise ValueError(f"{path}: has a header but no rows")
    columns = _columns(path, names, rows, lines, delimiter)
    return Table(path, tuple(names), columns, lines, has_header)


def _decode(path: Path) -> str:
    data = path.read_bytes()
    for start, kind in OTHER_KINDS.items():
        if data.startswith(start):
            raise ValueError(f"{path}: is {kind}; save the table as CSV in UTF-8")
    encodings = (e for mark, e in BYTE_ORDER_MARKS.items() if data.startswith(mark))
    encoding = next(encodings, "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}: line {line} is not {encoding.removesuffix('-sig').upper()}; save "
            "the file as UTF-8, such as by: iconv -f LATIN1 -t UTF-8 OLD > NEW"
        ) from error
    if "\0" in text:
        raise ValueError(f"{path}: has NUL bytes; save the file as text in UTF-8")
    return text


def _delimiter(text: str, blanks: bool) -> str:
    lines = (line.strip() for line in io.StringIO(text, newline=None))
    line = next(filter(None, lines), "")[: csv.field_size_limit()]
    if line.lower().startswith("sep=") and len(line) == 5:
        return line[4]
    counts = {d: len(next(csv.reader([line], delimiter=d), [])) for d in ",;\t"}
    delimiter = max(counts, key=lambda d: counts[d])
    return " " if blanks and counts[delimiter] == 1 else delimiter


def _columns(
    path: Path,
    names: list[str],
    rows: list[list[str]],
    lines: list[int],
    delimiter: str,
) -> tuple[Sequence[str], ...]:
    """The columns of rows; blank fields at the end of a row need not be named."""
    width = len(names)
    while width > 1 and not names[width - 1]:
        width -= 1  # a delimiter at the end of the header
    del names[width:]
    wrong = []
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            if len(row) < width or any(field.strip() for field in row[width:]):
                wrong.append(f"line {line} has {len(row)} fields")
            del row[width:]
    if wrong:
        raise ValueError(
            f"{path}: {wrong[0]}, the first line has {width} ({len(wrong)} such "
            f"lines); put quotes around a value that contains {delimiter!r}"
        )
    return tuple(zip(*rows, strict=True))


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
        table = parquet.read_table(path, columns=names)
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
    if not table.num_rows:
        raise ValueError(f"{path}: is empty; it needs a row for each image")
    columns = tuple([_text(x) for x in c.to_pylist()] for c in table.columns)
    return Table(path, tuple(names), columns, range(1, table.num_rows + 1))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(map(_text, value))
    return str(value)
