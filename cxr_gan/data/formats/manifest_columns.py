"""Finds the columns of a manifest by their names."""

import csv
import dataclasses
import difflib
import re
from collections.abc import Iterable

from cxr_gan.data import split_words
from cxr_gan.data.formats.manifest_table import Table
from cxr_gan.data.listing import ManifestOptions, typed

# Role -> names of its column without case, blanks and punctuation. Columns of the
# second kind are considered only if there is none of the first.
_SYNONYMS = {
    "file": (
        "file filename filepath path image img imagename imgname imagefile imagepath "
        "imgpath imagefilename imageid imgid imageindex dicomid dicompath dicomfile "
        "dicomfilename sopinstanceuid sopuid xrayimagename",
        "id uid name",
    ),
    "label": (
        "label labels class classes classname diagnosis finding findings findinglabel "
        "findinglabels target disease pathology category groundtruth",
        "y result",
    ),
    "patient": ("patient patientid patientnumber subject subjectid", "pid case caseid"),
    # Of the second kind, only a column with a word that names a split.
    "split": (
        "split splits datasplit datasetsplit",
        "subset set fold partition dataset datasettype phase usage",
    ),
    "view": ("view viewposition projection", ""),
}
SYNONYMS = {
    role: tuple(frozenset(words.split()) for words in kinds)
    for role, kinds in _SYNONYMS.items()
}
NONE = "none"  # as the name of an optional column: there is none
MAX_SHOWN = 30  # columns in a message
MAX_LENGTH = 60  # characters of a name in a message


@dataclasses.dataclass(frozen=True)
class Columns:
    """The index of the column of each role; None if there is none."""

    file: int
    labels: tuple[int, ...]  # several are columns of 1, 0, -1 or blank
    patient: int | None
    split: int | None
    view: tuple[int, ...]  # the later ones are more precise, but may be blank


def normalise(name: str) -> str:
    """The name without case, blanks and punctuation."""
    return re.sub(r"[\W_]", "", name.casefold())


def comma_list(text: str) -> list[str]:
    """The items of "a, b"; one that contains a comma is in double quotes."""
    rows = csv.reader([text.strip()], skipinitialspace=True)
    return [item.strip() for item in next(rows, []) if item.strip()]


def flag(name: str, value: str) -> str:
    """What to type to set a field of ManifestOptions, for messages."""
    return typed(f"manifest.{name}", value)


def is_header(row: list[str], suffix: str, options: ManifestOptions) -> bool:
    """Whether the first row of a manifest names its columns.

    It does not if the options give the column of the files by its number; nor does
    that of a .txt file, unless a field of it is a usual name of that column.
    """
    if options.file.isdecimal() and options.file not in row:
        return False
    names = {normalise(name) for name in row}
    known = SYNONYMS["file"][0] | {normalise(options.file)} - {""}
    return suffix != ".txt" or bool(names & known)


def find(table: Table, options: ManifestOptions) -> Columns:
    """The columns that the options name, or else those with usual names.

    Case, blanks and punctuation are ignored. The two columns of views of CheXpert,
    Frontal/Lateral and AP/PA, are read together.

    Raises:
        ValueError: a column is missing, or there are several; lists the columns.
    """
    file = find_role(table, "file", options.file)
    if file is None:
        raise ValueError(_missing(table, "file"))
    if options.label:
        labels = tuple(find_named(table, x) for x in _label_names(table, options.label))
    else:
        label = find_role(table, "label", "")
        if label is None:
            raise ValueError(_missing(table, "label"))
        labels = (label,)
    is_lists = "=" in options.split and options.split not in table.names
    view = find_role(table, "view", options.view)
    views: tuple[int, ...] = () if view is None else (view,)
    if view is None and options.view != NONE:
        by_name = {normalise(name): i for i, name in enumerate(table.names)}
        pair = ("frontallateral", "appa")
        views = tuple(by_name[x] for x in pair if x in by_name)
    return Columns(
        file=file,
        labels=labels,
        patient=find_role(table, "patient", options.patient),
        split=find_role(table, "split", NONE if is_lists else options.split),
        view=views,
    )


def find_role(table: Table, role: str, named: str) -> int | None:
    """The column of a role, by the name in the options or by a usual one."""
    if named and not (named == NONE and NONE not in table.names):
        return find_named(table, named)
    if named or not table.has_header:
        return None
    for kind, synonyms in enumerate(SYNONYMS[role]):
        found = [i for i, x in enumerate(table.names) if normalise(x) in synonyms]
        if role == "split" and kind == 1:
            found = [i for i in found if _has_split_word(table, i)]
        if len(found) > 1:
            names = ", ".join(repr(table.names[i]) for i in found)
            raise ValueError(
                f"{table.path}: several columns may be the {role}: {names}; choose "
                f"one by {flag(role, 'COLUMN')}"
            )
        if found:
            return found[0]
    return None


def find_named(table: Table, name: str) -> int:
    """The index of a column, by its name or by its name without punctuation.

    Raises:
        ValueError: there is none, or there are several; lists the columns.
    """
    exact = [i for i, x in enumerate(table.names) if x == name]
    loose = [i for i, x in enumerate(table.names) if normalise(x) == normalise(name)]
    found = exact or (loose if normalise(name) else [])
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{table.path}: {len(found)} columns are named {name!r}; rename all but one"
        )
    matches = difflib.get_close_matches(name, table.names, n=1)
    hint = f"did you mean {matches[0]!r}? " if matches else ""
    raise ValueError(
        f"{table.path}: has no column {name!r}; {hint}it has {listed(table.names)}"
    )


def listed(names: Iterable[str]) -> str:
    """Names in quotes, for messages; those after MAX_SHOWN are counted."""
    quoted = [repr(shortened(name)) for name in names]
    more = len(quoted) - MAX_SHOWN
    return ", ".join(quoted[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


def shortened(name: str) -> str:
    """A name, for messages, without what follows its first MAX_LENGTH characters."""
    return name if len(name) <= MAX_LENGTH else f"{name[:MAX_LENGTH]}..."


def _label_names(table: Table, label: str) -> list[str]:
    names = [label] if label in table.names else comma_list(label) or [label]
    return list(dict.fromkeys(names))


def _has_split_word(table: Table, index: int) -> bool:
    words = set(table.values(index))
    return len(words) <= 20 and any(split_words.split_of(word) for word in words)


def _missing(table: Table, role: str) -> str:
    what = {"file": "the image files", "label": "the labels"}[role]
    if not table.has_header:
        shown = ", ".join(
            f"{name} (such as {values[0]!r})"
            for name, values in zip(table.names, table.columns, strict=True)
        )
        return (
            f"{table.path}: has no header; its columns are {shown}: give the number "
            f"of the column of {what} by {flag(role, 'NUMBER')}"
        )
    if len(table.names) == 1:
        return (
            f"{table.path}: has only the column {listed(table.names)}; a manifest "
            "names files and labels, in columns divided by a comma, ; or a tab"
        )
    text = (
        f"{table.path}: no column has a usual name for {what}; the columns are "
        f"{listed(table.names)}: name one by {flag(role, 'COLUMN')}"
    )
    if role == "label":
        text += ", or several columns of 1 and 0 by --manifest.label=COLUMN,COLUMN"
    if role == "file":
        text += ", or give its number if the first line is not a header"
    return text
