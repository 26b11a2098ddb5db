"""Audits a prepared set, and writes audit.json and audit.html into its folder."""

import collections
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr_gan.data.dataset import Summary
from cxr_gan.data.formats import prepared
from cxr_gan.data.formats.prepared import Description, Row
from cxr_gan.evaluation.audit import checks, copies, measurements, shortcuts
from cxr_gan.evaluation.audit.checks import Evidence
from cxr_gan.evaluation.report import audit_page
from cxr_gan.storage import files

VERSION = 1  # increase it when checks change, so that sets are audited again
REPORT, PAGE = "audit.json", "audit.html"
SIDES = 0, 64, 128, 256, 512, 1024, 2048  # px, lower ends of ranges that are counted
QUANTILES = 0.05, 0.5, 0.95
MAX_VALUES = 20  # of a header field that are counted one by one


def load_or_audit(folder: Path) -> dict[str, Any]:
    """The content of audit.json; a set that was audited is not audited again.

    Both files name images, as index.csv does, and must not leave the folder.

    Raises:
        ValueError: the set is damaged.
        files.DiskError: the folder cannot be written.
    """
    description = prepared.read_description(folder)
    known = _read(folder / REPORT)
    key = VERSION, description.identity
    is_current = (known.get("version"), known.get("identity")) == key
    if is_current and (folder / PAGE).is_file():
        return known
    prepared.open_prepared(str(folder)).read(description.resolution)  # compares hashes
    images = np.load(folder / prepared.IMAGES, mmap_mode="r")
    evidence = gather(description, images, list(prepared.rows(folder)))
    report = make_report(description, evidence)
    html = audit_page.render(
        report,
        audit_page.mean_images(images, evidence),
        audit_page.pictures(images, evidence, report),
    )
    for name, text in ((PAGE, html), (REPORT, json.dumps(report, indent=2) + "\n")):
        with files.atomic_write(folder / name) as partial:
            partial.write_text(text, "utf-8")
    return report


def _read(path: Path) -> dict[str, Any]:
    """The content of audit.json; {} if there is none, or if it is damaged."""
    try:
        known: dict[str, Any] = json.loads(path.read_text("utf-8"))
        lists = known["exceeded"], known["checks"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return known if all(isinstance(x, list) for x in lists) else {}


def gather(description: Description, images: np.ndarray, rows: list[Row]) -> Evidence:
    """Measures all images, searches for copies and trains the linear classifiers.

    Args:
        description: of the set.
        images: uint8 [n, s, s, 1], which may be memory-mapped.
        rows: of index.csv, [n].
    """
    labels = np.array([int(row.label) for row in rows])
    # Hashes of patients are other ones in each set, and folds must be the same.
    first: dict[str, str] = {}
    patients = np.array(
        [first.setdefault(r.patient, r.id) if r.patient else r.id for r in rows]
    )
    measured = measurements.measure(images)
    chosen = shortcuts.select(patients)
    seen = {
        "the outer frame": measured.frame,
        "brightness": measured.intensity,
        "size and origin": shortcuts.origin_features(rows),
    }
    return Evidence(
        rows=rows,
        labels=labels,
        class_names=description.classes,
        resolution=description.resolution,
        measured=measured,
        copies=copies.find(measured.details, [row.sha256 for row in rows]),
        aurocs={
            what: shortcuts.estimate(
                x[chosen], labels[chosen], patients[chosen], len(description.classes)
            )
            for what, x in seen.items()
        },
    )


def make_report(description: Description, evidence: Evidence) -> dict[str, Any]:
    """The content of audit.json; JSON types. Equal sets have equal reports."""
    ids = [row.id for row in evidence.rows]
    found = checks.run(evidence)
    quality = evidence.measured.quality
    ranges = {
        "brightness": np.array([one.mean for one in quality]),
        "contrast": np.array([one.contrast for one in quality]),
    }
    if all(sides := [row.shorter_side for row in evidence.rows]):
        ranges["shorter side of the file, px"] = np.array(sides)
    return {
        "version": VERSION,
        "identity": description.identity,
        "resolution": description.resolution,
        "class_names": list(description.classes),
        "exceeded": [check.name for check in found if check.is_exceeded],
        "checks": [
            {
                "name": check.name,
                "value": check.value,
                "limit": check.limit,
                "exceeded": check.is_exceeded,
                "text": check.text,
                "images": [ids[row] for row in check.rows],
            }
            for check in found
        ],
        "copies": {
            "exact": [[ids[row] for row in group] for group in evidence.copies.exact],
            "exact_or_near": [
                [ids[row] for row in group] for group in evidence.copies.all
            ],
        },
        "counts": _counts(evidence),
        "quantiles": {
            what: {
                name: np.quantile(x, QUANTILES).round(1).tolist()
                for name, x in evidence.of_classes(values).items()
            }
            for what, values in ranges.items()
        },
        "left_out": description.summary.get("left out", {}),
        "patients_by": description.summary.get("patients by", {}),
        "notes": list(description.notes),
    }


def _counts(evidence: Evidence) -> dict[str, Summary]:
    """Field -> value -> class -> number of images; and of patients, where known."""
    rows = evidence.rows
    sides = [row.shorter_side for row in rows]
    fields = {
        "split": [row.split for row in rows],
        "file": [row.kind for row in rows],
        "bits": [row.bits for row in rows],
        "shorter side": [_range_of(side) if side else "" for side in sides],
        **{
            field: [getattr(row, field) for row in rows]
            for field in ("view", "modality", "manufacturer")
        },
    }
    names = [row.class_name for row in rows]
    counts: dict[str, Summary] = {}
    for field, values in fields.items():
        if any(values):
            common = {v for v, _ in collections.Counter(values).most_common(MAX_VALUES)}
            shown = [v or "unknown" if v in common else "others" for v in values]
            counts[field] = _table(shown, names, evidence.class_names)
    known = {(row.split, row.patient, row.class_name) for row in rows if row.patient}
    if known:
        splits, _, of_classes = zip(*sorted(known), strict=True)
        counts["patients"] = _table(splits, of_classes, evidence.class_names)
    return counts


def _table(
    values: Sequence[str], names: Sequence[str], class_names: Sequence[str]
) -> Summary:
    """Value -> class -> count; the most frequent value first."""
    counted = collections.Counter(zip(values, names, strict=True))
    return {
        value: {name: counted[value, name] for name in class_names}
        for value, _ in collections.Counter(values).most_common()
    }


def _range_of(side: int) -> str:
    lower = max(end for end in SIDES if end <= side)
    upper = next((end for end in SIDES if end > side), None)
    return f"{lower} to {upper - 1} px" if upper else f"{lower} px or more"
