"""Which images are of one patient: from manifests, DICOM headers and file names."""

import collections
import dataclasses
import re
from collections.abc import Callable, Sequence

from cxr_gan.data.dataset import ImageSet
from cxr_gan.data.listing import Entry, Header

Patient = tuple[str | int, ...]

# What stands for a PatientID that was removed; in upper case.
PLACEHOLDERS = {
    *("", "0", "ANON", "ANONYMOUS", "ANONYMIZED", "ANONYMISED", "DEIDENTIFIED"),
    *("NA", "N/A", "NAN", "NONE", "NULL", "PATIENT", "REMOVED", "UNKNOWN"),
}
STUDY, UNKNOWN = "study", "unknown"


@dataclasses.dataclass(frozen=True)
class Patients:
    """The patients of the images of a listing, and how they were found."""

    keys: tuple[
        str, ...
    ]  # equal for images of one patient; the entry's file if unknown
    known: tuple[bool, ...]
    how: dict[str, int]  # images by where the patient is from, "unknown" included
    notes: tuple[str, ...]  # warnings


def decide(
    entries: Sequence[Entry], headers: Sequence[Header], pattern: str
) -> Patients:
    """The patient of each image, from the first of these that has one.

    The manifest; the pattern; the header's PatientID; the header's study; the file
    name (see PATIENT_PARSERS). An image with none of them counts as a patient of its
    own. A PatientID does not count if it is a placeholder, or the only one of the set
    although there are several studies. The pattern precedes the header because only
    somebody who knows the files gives one.

    Args:
        entries: n images.
        headers: of each.
        pattern: regular expression searched in `Entry.file`; its first group, or else
            the entire match, is the patient. "" for none.

    Raises:
        ValueError: the pattern is not a regular expression, or matches no file.
    """
    matched = match([entry.file for entry in entries], pattern)
    is_shared = _is_shared(entries, headers)
    found = [
        _patient(entry, "" if is_shared else header.patient_id.strip(), header, shown)
        for entry, header, shown in zip(entries, headers, matched, strict=True)
    ]
    how = collections.Counter(where for where, _ in found)
    notes = []
    if pattern and not all(matched):
        notes.append(
            f"patient_pattern={pattern!r} matches {sum(map(bool, matched))} of "
            f"{len(entries)} files, but not {entries[matched.index('')].file!r}"
        )
    if how[STUDY]:
        notes.append(
            f"{how[STUDY]} of {len(entries)} images have no PatientID of their own and "
            "are grouped by study: this keeps the views of one visit together, but not "
            "two visits of one patient, who may be in both train and val"
        )
    return Patients(
        keys=tuple(key for _, key in found),
        known=tuple(where != UNKNOWN for where, _ in found),
        how=dict(how),
        notes=tuple(notes),
    )


def _patient(
    entry: Entry, patient_id: str, header: Header, match: str
) -> tuple[str, str]:
    """(where the patient is from, key) of one image."""
    in_manifest, shown = entry.patient.strip(), patient_of(entry.file)
    if in_manifest == "0" or in_manifest.upper() not in PLACEHOLDERS:
        return "manifest", str(("manifest", in_manifest))
    if match:
        return "pattern", str(("pattern", match))
    if patient_id.upper() not in PLACEHOLDERS:
        return "PatientID", str(("patient", patient_id))
    if header.study:
        return STUDY, str(("study", header.study))
    if shown:
        return f"file name ({shown[0]})", str(shown)
    return UNKNOWN, entry.file


def match(files: Sequence[str], pattern: str) -> list[str]:
    """What a pattern, "" for none, finds in each path; "" if it does not match.

    Raises:
        ValueError: as `decide`.
    """
    if not pattern:
        return [""] * len(files)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"patient_pattern={pattern!r} is not a regular expression ({error}); one "
            r"is 'patient(\d+)', whose group is the patient"
        ) from error
    group = min(compiled.groups, 1)
    matches = map(compiled.search, files)
    found = [(match and match[group]) or "" for match in matches]
    if not any(found):
        raise ValueError(
            f"patient_pattern={pattern!r} matches none of {len(files)} files, such as "
            f"{files[0]!r}; give one that does, or none"
        )
    return found


def _is_shared(entries: Sequence[Entry], headers: Sequence[Header]) -> bool:
    """Whether all headers have one PatientID, although there are several studies."""
    ids = {header.patient_id.strip() for header in headers}
    ids = {id_ for id_ in ids if id_.upper() not in PLACEHOLDERS}
    studies = {
        header.study or entry.file
        for entry, header in zip(entries, headers, strict=True)
        if header.patient_id.strip() in ids
    }
    return len(ids) == 1 and len(studies) > 1


def note_of_unknown(unknown: Sequence[str], total: int) -> str:
    """A warning about the names, of `total`, that show no patient."""
    return (
        f"{len(unknown)} of {total} image ids, such as {unknown[0]!r}, match no naming "
        "scheme for patients: they are held out image by image, so one patient may be "
        f"in both train and val. Known naming schemes: {', '.join(PATIENT_PARSERS)}"
    )


def patient_of(name: str) -> Patient | None:
    """The patient in an image's id, as (naming scheme, key...); None if unknown."""
    for scheme, parse in PATIENT_PARSERS.items():
        key = parse(name)
        if key is not None:
            return (scheme, *key)
    return None


def count_by_name(names: Sequence[str]) -> dict[str, int]:
    """`Patients.how` of images of which only names are known."""
    shown = map(patient_of, names)
    return dict(
        collections.Counter(f"file name ({x[0]})" if x else UNKNOWN for x in shown)
    )


def patient_keys(names: Sequence[str]) -> list[str]:
    """One key per image: its patient, or its id if that is unknown."""
    # Held-out splits and halves hash these keys: keep their format.
    return [str(patient_of(name) or name) for name in names]


def keys_of(images: ImageSet) -> list[str]:
    """The key of each image's patient; the image's id where that is unknown."""
    return list(images.patients) or patient_keys(images.ids)


def _kermany(name: str) -> Patient | None:
    """The names of Kaggle, and those of the original archive.

    person1000_bacteria_2931.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-1427-0001.jpeg:
    bacteria, virus, IM and NORMAL2-IM each number their patients separately.
    BACTERIA-1008087-0001.jpeg, VIRUS-..., NORMAL-...: one numbering.
    """
    if match := re.search(r"(?:^|/)person(\d+)_(bacteria|virus)_", name):
        return match[2], int(match[1])
    if match := re.search(r"(?:^|/)(NORMAL2-)?IM-(\d+)-", name):
        return (match[1] or "") + "IM", int(match[2])
    match = re.search(r"(?:^|/)(?:BACTERIA|VIRUS|NORMAL)-(\d+)-\d+\.\w+$", name)
    return (int(match[1]),) if match else None


def _nih(name: str) -> Patient | None:
    """00000013_005.png: patient 13, sixth image."""
    match = re.search(r"(?:^|/)(\d{8})_\d{3}\.\w+$", name)
    return (int(match[1]),) if match else None


def _chexpert(name: str) -> Patient | None:
    """patient00001/study1/view1_frontal.jpg."""
    match = re.search(r"(?:^|/)patient(\d+)/study\d+/", name)
    return (int(match[1]),) if match else None


def _mimic(name: str) -> Patient | None:
    """p10/p10000032/s50414267/*.jpg: patient 10000032, and a study."""
    match = re.search(r"(?:^|/)p(\d{8})/s\d{8}[/.]", name)
    return (int(match[1]),) if match else None


def _phantom(name: str) -> Patient | None:
    """phantom/0/17: every phantom is a patient of its own."""
    match = re.fullmatch(r"phantom/(\d+)/(\d+)", name)
    return (int(match[1]), int(match[2])) if match else None


# Naming scheme -> function from an image's id to the key of its patient, or None if
# the id does not match. To support another scheme, add its function here.
PATIENT_PARSERS: dict[str, Callable[[str], Patient | None]] = {
    # Kermany et al. 2018, doi:10.17632/rscbjbr9sj.
    "kermany": _kermany,
    # Wang et al. 2017, "ChestX-ray8".
    "nih": _nih,
    # Irvin et al. 2019, "CheXpert".
    "chexpert": _chexpert,
    # Johnson et al. 2019, "MIMIC-CXR".
    "mimic": _mimic,
    "phantom": _phantom,
}
