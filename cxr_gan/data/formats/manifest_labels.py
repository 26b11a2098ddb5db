"""Turns the labels of a manifest into classes."""

import ast
import collections
from collections.abc import Iterable, Sequence

from cxr_gan.data.formats.manifest_columns import comma_list, flag, shortened
from cxr_gan.data.formats.manifest_table import Table

MAX_CLASSES = 20  # distinct labels without a map; more are seldom meant as classes
MAX_SHOWN = 10  # labels in a message
NO_LABEL = "without a label"
UNCERTAIN = "of an uncertain label (-1)"
NOT_MAPPED = "of a label that manifest.classes does not name"
TWO_CLASSES = "of labels of two classes"

Labels = tuple[str, ...] | None  # of one row; None if they are uncertain

_BINARY: dict[str, bool | None] = {
    "1": True,
    "1.0": True,
    "true": True,
    "0": False,
    "0.0": False,
    "false": False,
    "": False,
    "-1": None,  # uncertain, as in CheXpert
    "-1.0": None,
}


def read(table: Table, columns: Sequence[int], rows: Sequence[int]) -> list[Labels]:
    """The labels of these rows of a table.

    One column holds labels: one, several as "A|B" or "A;B", or several as "['A', 'B']".
    Several columns are named by a label each, and hold 1 (or true) where the row has
    it, 0 (or false) or a blank where it has not, and -1 where it is uncertain. A row
    with a -1 in one of them is uncertain as a whole.

    Raises:
        ValueError: one of several columns holds another value; names column and line.
    """
    if len(columns) == 1:
        values = table.values(columns[0])
        split = {text: _split(text) for text in set(values)}
        return [split[values[row]] for row in rows]
    flags = []
    for column in columns:
        values = [value.lower() for value in table.values(column)]
        for row in rows:
            if values[row] not in _BINARY:
                raise ValueError(
                    f"{table.path}: column {table.names[column]!r} has the value "
                    f"{values[row]!r} at line {table.lines[row]}; where manifest.label "
                    "names several columns, each must hold 1, 0, -1 or a blank"
                )
        flags.append([_BINARY[values[row]] for row in rows])
    names = [table.names[column] for column in columns]
    labels: list[Labels] = []
    for found in zip(*flags, strict=True):
        has = tuple(name for name, value in zip(names, found, strict=True) if value)
        labels.append(None if None in found else has)
    return labels


def classify(
    labels: Sequence[Labels], class_map: str, where: str
) -> tuple[list[str], list[str]]:
    """The class of each row, and why it has none; one of both is "".

    Without a map, a label is the class of its name, unchanged. With a map, a row has
    the class to which its labels map; labels that are not in the map are ignored. Left
    out are a row without a label, an uncertain one (as several columns have it, or a
    single label -1 that is not in the map), a row of which no label is in the map, and
    a row whose labels map to two classes.

    Args:
        labels: as `read` returns them.
        class_map: "label=class,label=class"; "" for none.
        where: names the manifest in errors.

    Raises:
        ValueError: the map cannot be read, or names a label that no row has. Or there
            is none, but rows with several labels, or more than MAX_CLASSES different
            labels; lists the most frequent ones. Or the name of a class cannot be
            printed.
    """
    if class_map.strip():
        class_of = parse_map(class_map, "classes")
        _check_map(class_of, labels, where)
    else:
        _check_labels(labels, where)
        class_of = {label: label for row in labels if row for label in row}
        for uncertain in ("-1", "-1.0"):
            class_of.pop(uncertain, None)
    for name in class_of.values():
        if not name.isprintable():
            raise ValueError(
                f"{where}: the label {shortened(name)!r} has a line break or a control "
                f"character; give its class a name by {flag('classes', 'LABEL=CLASS')}"
            )
    known: dict[Labels, tuple[str, str]] = {}
    for row in set(labels):
        classes = {class_of[label] for label in row or () if label in class_of}
        if len(classes) == 1:
            known[row] = (classes.pop(), "")
        elif classes:
            known[row] = ("", TWO_CLASSES)
        elif row is None or row in (("-1",), ("-1.0",)):
            known[row] = ("", UNCERTAIN)
        else:
            known[row] = ("", NOT_MAPPED if row else NO_LABEL)
    return [known[row][0] for row in labels], [known[row][1] for row in labels]


def parse_map(text: str, field: str) -> dict[str, str]:
    """{"a": "x", "b": "x"} of "a=x, b=x", the value of a field of ManifestOptions.

    Raises:
        ValueError: an item has no "=", or one side is blank or is given twice.
    """
    found: dict[str, str] = {}
    for item in comma_list(text):
        key, equals, value = (part.strip() for part in item.rpartition("="))
        if not equals or not key or not value or found.get(key, value) != value:
            raise ValueError(
                f"manifest.{field}={text!r}: {item!r} must be one NAME=VALUE, with "
                "commas between them, and one value for each name"
            )
        found[key] = value
    return found


def _split(text: str) -> tuple[str, ...]:
    items = [text]
    if text.startswith("[") and text.endswith("]"):
        try:
            value = ast.literal_eval(text)  # a list that Python wrote, as in PadChest
        except (ValueError, SyntaxError):
            value = text[1:-1].split(",")
        items = [str(item) for item in value]
    parts = [part.strip() for x in items for part in x.replace(";", "|").split("|")]
    return tuple(dict.fromkeys(part for part in parts if part))


def _frequent(labels: Iterable[Labels]) -> list[tuple[str, int]]:
    """Labels and their number of rows, the most frequent first."""
    counts = collections.Counter(label for row in labels for label in row or ())
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _shown(frequent: list[tuple[str, int]]) -> str:
    shown = ", ".join(
        f"{shortened(label)!r} ({count})" for label, count in frequent[:MAX_SHOWN]
    )
    more = len(frequent) - MAX_SHOWN
    return shown + (f" and {more} more" if more > 0 else "")


def _check_map(class_of: dict[str, str], labels: Sequence[Labels], where: str) -> None:
    frequent = _frequent(labels)
    unknown = set(class_of) - {label for label, _ in frequent}
    if unknown:
        raise ValueError(
            f"{where}: manifest.classes names {', '.join(map(repr, sorted(unknown)))}, "
            f"which no row has; the labels and their numbers of rows are "
            f"{_shown(frequent) or 'none'}"
        )


def _check_labels(labels: Sequence[Labels], where: str) -> None:
    several = sum(1 for row in labels if row and len(row) > 1)
    frequent = _frequent(labels)
    if not several and len(frequent) <= MAX_CLASSES:
        return
    example = ",".join(f"{shortened(label)}=CLASS" for label, _ in frequent[:2])
    raise ValueError(
        f"{where}: has {len(frequent)} different labels, and {several} rows with "
        f"several of them; the most frequent are {_shown(frequent)}: name those to "
        "use, and the class of each, by " + flag("classes", f"{example!r}")
    )
