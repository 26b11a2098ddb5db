"""benchmarks.quality: a table that compares evaluations."""

import json

import benchmark_command
import pytest

from benchmarks import quality
from cxr_gan.evaluation.results import POOLED

NAMES = ("NORMAL", "PNEUMONIA")


def report(value, **other):
    """A report in which every metric has this value."""
    rows = [(*key, POOLED) for key in quality.POOLED_ROWS.values()]
    rows += [(*key, name) for key in quality.CLASS_ROWS.values() for name in NAMES]
    estimate = {"value": value, "low": value - 1, "high": value + 1}
    metrics = [
        {
            **{"metric": metric, "space": space, "sets": sets, "group": group},
            **{**estimate, "reference": estimate},
        }
        for metric, space, sets, group in rows
    ]
    return {
        "dataset": {"identity": "a"},
        "images": {"counts": {"NORMAL": 10, "PNEUMONIA": 10}},
        **{"resolution": 32, "seed": 0, "spaces": ["cxr"], "class_names": [*NAMES]},
        **{"metrics": metrics, "verdict": "verdict: no fault found", **other},
    }


@pytest.fixture
def written(tmp_path):
    """written(name=report, ...) -> the values of --report."""

    def written(**reports):
        for name, content in reports.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "report.json").write_text(json.dumps(content))
        return [f"{name}={tmp_path / name}" for name in reports]

    return written


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": {"identity": "b"}},
        {"images": {"counts": {"NORMAL": 20, "PNEUMONIA": 20}}},
        {"resolution": 64},
    ],
)
def test_incomparable_evaluations_are_refused(other, written):
    arguments = written(ours=report(1.0), theirs=report(1.0, **other))
    with pytest.raises(ValueError, match="evaluate both in the same way"):
        quality.read_reports(arguments)


def test_invalid_report_is_named(written, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "report.json").write_text("[]")
    with pytest.raises(ValueError, match=r"bad/report.json is not a report"):
        quality.read_reports([f"bad={tmp_path / 'bad'}"])
    with pytest.raises(ValueError, match="give NAME=FOLDER, each name once"):
        quality.read_reports([*written(ours=report(1.0)), "ours=elsewhere"])
    lacking = report(1.0, metrics=[])
    with pytest.raises(ValueError, match="ours lacks fid, cxr, generated~B, all class"):
        quality.compare({"ours": lacking})


def test_table_has_the_metrics_of_every_report(written, capsys):
    reports = written(ours=report(1.0), theirs=report(2.0))
    arguments = [f"--report={argument}" for argument in reports]
    assert benchmark_command.run(quality, *arguments) == 0
    text = capsys.readouterr().out
    assert "| FID, cxr | 1 [0, 2] | 2 [1, 3] | 2 [1, 3] |" in text
    assert "| finest octave, dB, PNEUMONIA | 1 [0, 2] |" in text
    assert "| verdict | no fault found | no fault found |  |" in text
