"""benchmarks.quality: tables that compare evaluations, and two trainings."""

import json

import numpy as np
import pytest
from absl import flags

from benchmarks import pages, quality
from cxr_gan import data
from cxr_gan.evaluation.results import POOLED

NAMES = ("NORMAL", "PNEUMONIA")
MARKS = "<!-- quality -->\n<!-- end of quality -->\n"


def report(value, **other):
    """A report in which every metric has this value."""
    rows = [(row, POOLED) for row in quality.POOLED_ROWS.values()]
    rows += [(row, name) for row in quality.CLASS_ROWS.values() for name in NAMES]
    metrics = [
        {
            **{"metric": row.metric, "space": row.space, "group": group},
            **{"sets": row.sets, "value": value, "low": value - 1, "high": value + 1},
            "reference": {"value": 0.25},
        }
        for row, group in rows
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


def test_best_of_a_row_is_the_lowest_highest_or_nearest_to_zero(written):
    rows = quality.rows_of(
        quality.read_reports(written(ours=report(-0.5), theirs=report(0.4)))
    )
    best = {row["name"]: row["best"] for row in rows}
    assert best["FID, cxr"] == best["KID, texture"] == ["ours"]
    assert best["recall, cxr"] == best["label accuracy"] == ["theirs"]
    assert best["finest octave, dB, PNEUMONIA"] == ["theirs"]
    assert len(rows) == len(quality.POOLED_ROWS) + 2 * len(quality.CLASS_ROWS)


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
    with pytest.raises(ValueError, match="lacks fid, cxr, all classes, generated~B"):
        quality.rows_of({"ours": lacking})


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """A run validated at 1 and 2 kimg, 100 images/s; a recipe at 0.99 and 1.98 kimg."""
    run, recipe = tmp_path / "run", tmp_path / "recipe"
    run.mkdir()
    recipe.mkdir()
    lines = []
    for kimg in (1.0, 2.0):
        lines.append({"kimg": kimg, "time/images_per_second": 100.0})
        lines.append({"kimg": kimg, "eval/kid": 0.5 / kimg})
    (run / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    course = [{"kimg": 0.99, "cpu_seconds": 3}, {"kimg": 1.98, "cpu_seconds": 6}]
    (recipe / "recipe.json").write_text(json.dumps({"course": course}))
    for name, grey in (("001", 10), ("002", 20)):
        images = np.full((8, 32, 32), grey, np.uint8)
        labels = np.repeat([0, 1], 4)
        np.savez(recipe / f"{name}.npz", images=images, labels=labels)

    def validation_metrics(reference, images, labels):
        assert np.bincount(labels).tolist() == [3, 3]
        return {"eval/kid": float(images.mean())}

    monkeypatch.setattr(quality.validation, "IMAGES_PER_CLASS", 3)
    monkeypatch.setattr(
        quality.validation, "make_reference", lambda dataset: "reference"
    )
    monkeypatch.setattr(quality.validation, "validation_metrics", validation_metrics)
    return run, recipe


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return data.load("phantom:60", 32, split_seed=0, cache_dir=cache)


def test_two_trainings_are_validated_alike_at_equal_numbers_of_images(
    trainings, phantoms
):
    first, second = quality.training_course(*trainings, phantoms)
    assert first == {
        **{"kimg": 1.0, "ours": 0.5, "our minutes": 10 / 60},
        **{"theirs": 10.0, "their minutes": 0.05},
    }
    assert (second["kimg"], second["theirs"]) == (2.0, 20.0)
    assert second["our minutes"] == pytest.approx(20 / 60)


def test_images_saved_where_the_run_was_not_validated_are_refused(trainings, phantoms):
    run, recipe = trainings
    course = {"course": [{"kimg": 1.5, "cpu_seconds": 3}]}
    (recipe / "recipe.json").write_text(json.dumps(course))
    with pytest.raises(ValueError, match=r"was not validated at 1.5 kimg"):
        quality.training_course(run, recipe, phantoms)


def test_command_puts_both_tables_into_the_page(
    written, trainings, phantoms, tmp_path, monkeypatch
):
    monkeypatch.setattr(quality.data, "load", lambda *_, **__: phantoms)
    page = tmp_path / "quality.md"
    page.write_text(MARKS)
    run, recipe = trainings
    arguments = [f"--report={x}" for x in written(ours=report(1.0), theirs=report(2.0))]
    values = flags.FlagValues()
    quality.define_flags(values)
    more = [f"--run={run}", f"--recipe={recipe}", "--dataset=d", f"--out={page}"]
    values(["quality", *arguments, *more])
    assert quality.main(["quality"], values) == 0
    text = page.read_text()
    assert "| FID, cxr | **1** (0 to 2) | 2 (1 to 3) | 0.25 |" in text
    assert "| verdict | no fault found | no fault found |  |" in text
    assert "| 2 | 0.2500 | 0.3 | 20.0000 | 0.1 |" in text
    results = json.loads((tmp_path / "quality.quality.json").read_text())
    assert page.read_text() == pages.put(MARKS, "quality", quality.text(results))
