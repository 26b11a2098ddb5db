"""Turns the labels of a manifest into classes."""

import collections
from collections.abc import Mapping, Sequence

from cxr_gan.data.formats.manifest_columns import comma_list, flag, listed

MAX_CLASSES = 20  # distinct labels without a map; more are seldom meant as classes
MAX_SHOWN = 10  # labels in a message
NO_LABEL = "without a label"
UNCERTAIN = "of an uncertain label (-1)"
NOT_MAPPED = "of a label that manifest.classes does not name"
TWO_CLASSES = "of labels of two classes"

Labels = tuple[str, ...] | None  # of one row; None if they are uncertain

# Values of several columns, in lower case.
_YES = ("1", "1.0", "true")
_NO = ("0", "0.0", "false", "")
_UNCERTAIN = ("-1", "-1.0")  # as in CheXpert


def read(columns: Mapping[str, Sequence[str]], where: str) -> list[Labels]:
    """The labels of each row.

    One column holds labels: one, or several as "A|B" or "A;B". Several columns are
    named by a label each, and hold 1 (or true) where the row has it, 0 (or false) or a
    blank where it has not, and -1 where it is uncertain. A row with a -1 in one of
    them is uncertain as a whole.

    Args:
        columns: name of each column -> its values.
        where: names the manifest in errors.

    Raises:
        ValueError: one of several columns holds another value; names the column.
    """
    if len(columns) == 1:
        (values,) = columns.values()
        split = {text: _split(text) for text in set(values)}
        return [split[text] for text in values]
    for name, values in columns.items():
        other = {x for x in values if x.lower() not in (*_YES, *_NO, *_UNCERTAIN)}
        if other:
            raise ValueError(
                f"{where}: column {name!r} has the values {listed(sorted(other))}; "
                "where manifest.label names several columns, each must hold 1, 0, -1 "
                "or a blank"
            )
    known: dict[tuple[str, ...], Labels] = {}
    rows = list(zip(*columns.values(), strict=True))
    for row in set(rows):
        has = (
            x for x, value in zip(columns, row, strict=True) if value.lower() in _YES
        )
        known[row] = None if set(row) & set(_UNCERTAIN) else tuple(has)
    return [known[row] for row in rows]


def classify(
    labels: Sequence[Labels], class_map: str, where: str
) -> list[tuple[str, str]]:
    """The class of each row, and why it has none; one of both is "".

    Without a map, a label is the class of its name. With a map, a row has the class to
    which its labels map; labels that are not in the map are ignored. Left out are a row
    without a label, an uncertain one (as several columns have it, or a single label -1
    that is not in the map), a row of which no label is in the map, and a row whose
    labels map to two classes.

    Args:
        labels: as `read` returns them.
        class_map: "label=class,label=class"; "" for none.
        where: names the manifest in errors.

    Raises:
        ValueError: the map cannot be read, or names a label that no row has. Or there
            is none, but rows with several labels, or more than MAX_CLASSES different
            labels; lists the most frequent ones.
    """
    counts = collections.Counter(label for row in labels for label in row or ())
    frequent = sorted(counts, key=lambda label: (-counts[label], label))
    class_of = parse_map(class_map, "manifest.classes")
    unknown = class_of.keys() - counts.keys()
    several = sum(row is not None and len(row) > 1 for row in labels)
    if unknown or (not class_of and (several or len(counts) > MAX_CLASSES)):
        fault = f"manifest.classes names {listed(sorted(unknown))}, which no row has"
        if not unknown:
            many = f"more than {MAX_CLASSES} labels would be classes"
            fault = f"{several} rows have several labels" if several else many
        shown = ", ".join(f"{listed([x])} ({counts[x]})" for x in frequent[:MAX_SHOWN])
        example = flag("classes", "'LABEL=CLASS,LABEL=CLASS'")
        raise ValueError(
            f"{where}: {fault}; the most frequent of {len(counts)} labels are {shown}: "
            f"name those to use, and the class of each, by {example}"
        )
    if not class_of:
        class_of = {label: label for label in counts if label not in _UNCERTAIN}
    known: dict[Labels, tuple[str, str]] = {}
    for row in set(labels):
        classes = {class_of[label] for label in row or () if label in class_of}
        reason = TWO_CLASSES if classes else NOT_MAPPED if row else NO_LABEL
        if not classes and (row is None or (len(row) == 1 and row[0] in _UNCERTAIN)):
            reason = UNCERTAIN
        known[row] = (classes.pop(), "") if len(classes) == 1 else ("", reason)
    return [known[row] for row in labels]


def parse_map(text: str, field: str) -> dict[str, str]:
    """{"a": "x", "b": "x"} of "a=x, b=x", the value of a key of the configuration.

    Raises:
        ValueError: an item has no "=", or one side is blank or is given twice.
    """
    found: dict[str, str] = {}
    for item in comma_list(text):
        key, equals, value = (part.strip() for part in item.rpartition("="))
        if not equals or not key or not value or found.get(key, value) != value:
            raise ValueError(
                f"{field}={text!r}: {item!r} must be one NAME=VALUE, with "
                "commas between them, and one value for each name"
            )
        found[key] = value
    return found


def _split(text: str) -> tuple[str, ...]:
    # Line breaks of a spreadsheet's cell are blanks.
    parts = (" ".join(part.split()) for part in text.replace(";", "|").split("|"))
    return tuple(dict.fromkeys(filter(None, parts)))
