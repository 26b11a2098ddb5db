"""Finds the columns of a manifest by their names."""

import csv
import dataclasses
import difflib
import re
from collections.abc import Iterable

from cxr_gan.data import split_words
from cxr_gan.data.formats.dicom import is_lateral
from cxr_gan.data.formats.manifest_table import Table
from cxr_gan.data.listing import ManifestOptions, typed

# Role -> names of its column without case, blanks and punctuation. Those of a later
# group are considered only if there is none of an earlier one.
SYNONYMS = {
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
    # Of the second group, only a column with a word that names a split.
    "split": (
        "split splits datasplit datasetsplit",
        "subset set fold partition dataset datasettype phase usage",
    ),
    "view": ("view viewposition projection", "frontallateral", "appa"),
}
NONE = "none"  # as the name of an optional column: there is none
MAX_SHOWN = 30  # names in a message
MAX_LENGTH = 100  # characters of a name in a message


@dataclasses.dataclass(frozen=True)
class Columns:
    """The values of the columns of each role, one for each row; "" where missing."""

    file: list[str]
    labels: dict[str, list[str]]  # name of the column -> values
    patient: list[str]
    split: list[str] | None  # None if there is no column
    view: list[str]


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


def listed(names: Iterable[str]) -> str:
    """Names in quotes, for messages; the first characters of each."""
    short = [x if len(x) <= MAX_LENGTH else f"{x[:MAX_LENGTH]}..." for x in names]
    more = len(short) - MAX_SHOWN
    shown = ", ".join(map(repr, short[:MAX_SHOWN]))
    return shown + (f" and {more} more" if more > 0 else "")


def is_header(row: list[str], suffix: str, options: ManifestOptions) -> bool:
    """Whether the first row of a manifest names its columns.

    It does not if the options give the column of the files by its number; nor does
    that of a .txt file, unless a field of it is a usual name of that column.
    """
    if options.file.isdecimal() and options.file not in row:
        return False
    known = {*SYNONYMS["file"][0].split(), normalise(options.file)} - {""}
    return suffix != ".txt" or not known.isdisjoint(map(normalise, row))


def find(table: Table, options: ManifestOptions) -> Columns:
    """The columns that the options name, or else those with usual names.

    Case, blanks and punctuation are ignored. The two columns of views of CheXpert,
    Frontal/Lateral and AP/PA, are read together.

    Raises:
        ValueError: a column is missing, or there are several; lists the columns.
    """
    if options.label:
        is_one = options.label in table.names
        names = [options.label] if is_one else comma_list(options.label)
        labels = [find_named(table, name) for name in names]
    else:
        labels = [_find_required(table, "label", "")]
    is_lists = "=" in options.split and options.split not in table.names
    split = _find_role(table, "split", NONE if is_lists else options.split)
    view = _values(table, _find_role(table, "view", options.view))
    finer = [i for i, name in enumerate(table.names) if normalise(name) == "appa"]
    if finer and not options.view:
        pairs = zip(view, table.values(finer[0]), strict=True)
        view = [kind if is_lateral(kind) else finer or kind for kind, finer in pairs]
    return Columns(
        file=table.values(_find_required(table, "file", options.file)),
        labels={table.names[i]: table.values(i) for i in labels},
        patient=_values(table, _find_role(table, "patient", options.patient)),
        split=None if split is None else table.values(split),
        view=view,
    )


def find_named(table: Table, name: str) -> int:
    """The index of a column, by its name or by its name without punctuation.

    Raises:
        ValueError: there is none, or there are several; lists the columns.
    """
    exact = [i for i, x in enumerate(table.names) if x == name]
    found = exact or [
        i for i, x in enumerate(table.names) if normalise(x) == normalise(name) != ""
    ]
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


def _find_role(table: Table, role: str, named: str) -> int | None:
    """The column of a role, by the name in the options or by a usual one."""
    if named and (named != NONE or NONE in table.names):
        return find_named(table, named)
    found: list[int] = []
    for group in SYNONYMS[role] if table.has_header and not named else ():
        names = group.split()
        found = [i for i, x in enumerate(table.names) if normalise(x) in names]
        if role == "split" and "subset" in names:
            found = [i for i in found if _has_split_word(table, i)]
        if found:
            break
    if len(found) > 1:
        raise ValueError(
            f"{table.path}: several columns may be the {role}: "
            f"{listed(table.names[i] for i in found)}; choose one by "
            f"{flag(role, 'COLUMN')}"
        )
    return found[0] if found else None


def _values(table: Table, index: int | None) -> list[str]:
    return [""] * len(table.columns[0]) if index is None else table.values(index)


def _has_split_word(table: Table, index: int) -> bool:
    words = set(table.values(index))
    return len(words) <= 20 and any(split_words.split_of(word) for word in words)


def _find_required(table: Table, role: str, named: str) -> int:
    """The column of files or labels.

    Raises:
        ValueError: there is none; lists the columns.
    """
    index = _find_role(table, role, named)
    if index is not None:
        return index
    if not table.has_header:
        shown = (
            f"{name} (such as {values[0]!r})"
            for name, values in zip(table.names, table.columns, strict=True)
        )
        raise ValueError(
            f"{table.path}: has no header; its columns are {', '.join(shown)}: give "
            f"the number of that of the {role}s by {flag(role, 'NUMBER')}"
        )
    more = "or its number if there is no header"
    if role == "label":
        more = "or several columns of 1 and 0 as COLUMN,COLUMN"
    raise ValueError(
        f"{table.path}: no column has a usual name for the {role}s; the columns, "
        f"divided by a comma, ; or a tab, are {listed(table.names)}: give one by "
        f"{flag(role, 'COLUMN')}, {more}"
    )
