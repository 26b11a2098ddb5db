"""The committed results of benchmarks.yardstick: each metric detects its faults."""

import json
import pathlib

import numpy as np
import pytest

from benchmarks import yardstick

DOCS = pathlib.Path(__file__).parents[1] / "docs"
CLEAN = "real, other patients"
UP, DOWN = 1, -1

# fault, a metric that must detect it, and the direction of its change
REACTIONS = [
    ("noise, sd 3", "KID, texture, thousandths", UP),
    ("noise, sd 8", "finest octave, dB", UP),
    ("noise, sd 25", "finest octave, dB", UP),
    ("noise, sd 25", "FID, cxr", UP),
    ("blur, 0.7 px", "finest octave, dB", DOWN),
    ("blur, 0.7 px", "KID, texture, thousandths", UP),
    ("blur, 1.5 px", "finest octave, dB", DOWN),
    ("blur, 1.5 px", "MS-SSIM above real", UP),
    ("ten images repeated", "recall, cxr", DOWN),
    ("ten images repeated", "coverage, cxr", DOWN),
    ("ten images repeated", "FID, cxr", UP),
    ("two fifths copied", "exact copies", UP),
    ("two fifths copied", "below 1st percentile, cxr", UP),
    ("copies, blurred by 1 px", "below 1st percentile, cxr", UP),
    ("copies, blurred by 1 px", "near copies, pixels", UP),
    ("copies, shifted by 2 px", "near copies, pixels", UP),
    ("labels swapped", "labels given back", DOWN),
    ("labels swapped", "KID of NORMAL, cxr, millionths", UP),
    ("mean of two images", "FID, cxr", UP),
    ("mean of two images", "MS-SSIM above real", UP),
    ("uniform noise", "precision, cxr", DOWN),
    ("uniform noise", "FID, cxr", UP),
    ("phantoms", "FID, cxr", UP),
    ("phantoms", "precision, cxr", DOWN),
]


@pytest.fixture(scope="module")
def rows():
    return json.loads((DOCS / "yardstick.json").read_text())


def values(rows, fault, heading):
    return np.array([row["figures"][heading] for row in rows[fault].values()])


def test_table_is_that_of_the_rows_with_three_seeds_each(rows):
    assert rows.keys() == yardstick.FAULTS.keys()
    assert all(len(seeds) == 3 for seeds in rows.values())
    assert (DOCS / "yardstick.md").read_text().endswith(yardstick.table(rows))


@pytest.mark.parametrize(("fault", "heading", "direction"), REACTIONS)
def test_metric_changes_by_three_standard_errors(rows, fault, heading, direction):
    clean, faulty = values(rows, CLEAN, heading), values(rows, fault, heading)
    error = np.sqrt((clean.var(ddof=1) + faulty.var(ddof=1)) / len(clean))
    assert direction * (faulty.mean() - clean.mean()) > 3 * error


def test_verdict_names_every_fault_and_none_in_unchanged_images(rows):
    for fault, seeds in rows.items():
        for row in seeds.values():
            assert ("no fault found" in row["verdict"]) == (fault == CLEAN), fault
