"""benchmarks.quality: evaluations side by side, and two trainings at equal images."""

import json
import pathlib

import numpy as np
import pytest
from absl import flags

from benchmarks import pages, quality
from cxr_gan import data
from cxr_gan.evaluation.figures import POOLED

DOCS = pathlib.Path(__file__).parents[1] / "docs"
NAMES = ("NORMAL", "PNEUMONIA")
MARKS = "<!-- quality -->\n<!-- end of quality -->\n"


def report(value, **other):
    """Of which every figure is that value."""
    rows = [(row, POOLED) for row in quality.OF_ALL.values()]
    rows += [(row, name) for row in quality.OF_CLASSES.values() for name in NAMES]
    figures = [
        {
            **{"metric": row.metric, "space": row.space, "group": group},
            **{"sets": row.sets, "value": value, "low": value - 1, "high": value + 1},
            "floor": {"value": 0.25},
        }
        for row, group in rows
    ]
    return {
        "dataset": {"identity": "a"},
        "images": {"counts": {"NORMAL": 10, "PNEUMONIA": 10}},
        **{"resolution": 32, "seed": 0, "spaces": ["cxr"], "class_names": [*NAMES]},
        **{"figures": figures, "verdict": "verdict: no fault found", **other},
    }


@pytest.fixture
def written(tmp_path):
    """written(name=report, ..) -> the words for --report."""

    def written(**reports):
        for name, one in reports.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "report.json").write_text(json.dumps(one))
        return [f"{name}={tmp_path / name}" for name in reports]

    return written


def test_the_best_of_a_row_is_the_lowest_the_highest_or_the_nearest_to_0(written):
    rows = quality.rows_of(
        quality.reports_of(written(ours=report(-0.5), theirs=report(0.4)))
    )
    best = {row["name"]: row["best"] for row in rows}
    assert best["FID, cxr"] == best["KID, texture"] == ["ours"]
    assert best["recall, cxr"] == best["class given back by the judge"] == ["theirs"]
    assert best["finest octave, dB, PNEUMONIA"] == ["theirs"]
    assert len(rows) == len(quality.OF_ALL) + 2 * len(quality.OF_CLASSES)


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": {"identity": "b"}},
        {"images": {"counts": {"NORMAL": 20, "PNEUMONIA": 20}}},
        {"resolution": 64},
    ],
)
def test_evaluations_that_do_not_compare_are_refused(other, written):
    words = written(ours=report(1.0), theirs=report(1.0, **other))
    with pytest.raises(ValueError, match="evaluate them alike"):
        quality.reports_of(words)


def test_what_is_no_report_is_named(written, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "report.json").write_text("[]")
    with pytest.raises(ValueError, match=r"bad/report.json is no report"):
        quality.reports_of([f"bad={tmp_path / 'bad'}"])
    with pytest.raises(ValueError, match="give NAME=FOLDER, each name once"):
        quality.reports_of([*written(ours=report(1.0)), "ours=elsewhere"])
    lacking = report(1.0, figures=[])
    with pytest.raises(ValueError, match="lacks fid, cxr, all classes, generated~B"):
        quality.rows_of({"ours": lacking})


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """A run that looked at 1 and 2 kimg, 100 images/s; a recipe of 0.99 and 1.98."""
    run, recipe = tmp_path / "run", tmp_path / "recipe"
    run.mkdir()
    recipe.mkdir()
    lines = []
    for kimg in (1.0, 2.0):
        lines.append({"kimg": kimg, "time/img_per_sec": 100.0})
        lines.append({"kimg": kimg, "eval/kid": 0.5 / kimg})
    (run / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    course = [{"kimg": 0.99, "cpu_seconds": 3}, {"kimg": 1.98, "cpu_seconds": 6}]
    (recipe / "recipe.json").write_text(json.dumps({"course": course}))
    for name, grey in (("001", 10), ("002", 20)):
        images = np.full((8, 32, 32), grey, np.uint8)
        labels = np.repeat([0, 1], 4)
        np.savez(recipe / f"{name}.npz", images=images, labels=labels)

    def look(reference, images, labels):
        assert np.bincount(labels).tolist() == [3, 3]
        return {"eval/kid": float(images.mean())}

    monkeypatch.setattr(quality.monitor, "PER_CLASS", 3)
    monkeypatch.setattr(quality.monitor, "reference_of", lambda dataset: "seen")
    monkeypatch.setattr(quality.monitor, "figures", look)
    return run, recipe


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return data.load("phantom:60", 32, split_seed=0, cache_dir=cache)


def test_two_trainings_are_looked_at_alike_and_at_equal_images(trainings, phantoms):
    first, second = quality.course(*trainings, phantoms)
    assert first == {
        **{"kimg": 1.0, "ours": 0.5, "our minutes": 10 / 60},
        **{"theirs": 10.0, "their minutes": 0.05},
    }
    assert (second["kimg"], second["theirs"]) == (2.0, 20.0)
    assert second["our minutes"] == pytest.approx(20 / 60)


def test_images_kept_where_the_run_did_not_look_are_refused(trainings, phantoms):
    run, recipe = trainings
    course = {"course": [{"kimg": 1.5, "cpu_seconds": 3}]}
    (recipe / "recipe.json").write_text(json.dumps(course))
    with pytest.raises(ValueError, match=r"did not look at val at 1.5 kimg"):
        quality.course(run, recipe, phantoms)


def test_the_command_puts_both_tables_into_the_page(
    written, trainings, phantoms, tmp_path, monkeypatch
):
    monkeypatch.setattr(quality.data, "load", lambda *_, **__: phantoms)
    page = tmp_path / "quality.md"
    page.write_text(MARKS)
    run, recipe = trainings
    words = [f"--report={x}" for x in written(ours=report(1.0), theirs=report(2.0))]
    values = flags.FlagValues()
    quality.define_flags(values)
    more = [f"--run={run}", f"--recipe={recipe}", "--dataset=d", f"--out={page}"]
    values(["quality", *words, *more])
    assert quality.main(["quality"], values) == 0
    text = page.read_text()
    assert "| FID, cxr | **1** (0 to 2) | 2 (1 to 3) | 0.25 |" in text
    assert "| verdict | no fault found | no fault found |  |" in text
    assert "| 2 | 0.2500 | 0.3 | 20.0000 | 0.1 |" in text
    kept = json.loads((tmp_path / "quality.quality.json").read_text())
    assert page.read_text() == pages.put(MARKS, "quality", quality.text(kept))


def test_the_committed_page_is_that_of_its_figures():
    page = DOCS / "quality.md"
    told = quality.text(pages.earlier(page, "quality"))
    assert pages.put(page.read_text(), "quality", told) == page.read_text()
