import functools
import json
import pathlib

import evaluation_data
import jax
import numpy as np
import published
import pytest
import tiny_generator
from absl import flags

import cxr_gan
from cxr_gan import data, evaluate
from cxr_gan.evaluation import label_classifier_cache, report
from cxr_gan.evaluation.metrics import label_classifier
from cxr_gan.sampling import pretrained, sampler, training_images
from cxr_gan.storage import checkpoint


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a report of the tiny generator, which every run is."""
    published.patch(monkeypatch)
    published.write_report(tmp_path / "report")
    return tmp_path


@functools.cache
def trained():
    return tiny_generator.params()


def error_line(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not captured.out
    return captured.err


@pytest.mark.parametrize(
    ("dtype", "relative", "absolute"),
    [("float16", 2**-11, 2**-25), ("float32", 0, 0)],  # half a unit in the last place
    ids=["float16", "float32"],
)
def test_published_weights_equal_the_runs_up_to_rounding(
    folder, dtype, relative, absolute
):
    assert published.command(folder, f"--dtype={dtype}") == 0
    loaded = cxr_gan.load(folder / "tiny.npz")
    assert loaded.config == tiny_generator.CONFIG
    leaves = map(jax.tree.leaves, (loaded.params, trained().params))
    for read, weight in zip(*leaves, strict=True):
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, weight, rtol=relative, atol=absolute)
    same = sampler.fingerprint(loaded) == sampler.fingerprint(trained())
    assert same == (dtype == "float32")


def test_card_describes_weights_run_data_and_report(folder):
    assert published.command(folder) == 0
    loaded, card = sampler.load_with_meta(folder / "tiny.npz")
    assert (card["schema"], card["name"]) == (2, "tiny")
    assert card["model_hash"] == sampler.fingerprint(loaded)
    assert card["trained_hash"] == sampler.fingerprint(trained())
    assert card["trained_hash"] == card["report"]["images"]["model_hash"]
    assert (card["people"], card["licence"]) == (published.PEOPLE, published.LICENCE)
    assert (card["step"], card["kimg"], card["score"]) == (7, 0.448, 0.5)
    assert card["dataset"]["identity"] == published.IDENTITY
    assert card["config"]["loss"] == published.META["config"]["loss"]
    assert card["metrics"] == published.META["metrics"]
    assert card["report"]["metrics"] == published.report("")["metrics"]
    assert card["software"].keys() == {"cxr_gan", "jax", "numpy"}


def test_no_file_contains_folders_or_names_of_training_images(folder):
    assert published.command(folder) == 0
    for suffix, last_name in (("json", '"set"'), ("md", "`set`")):
        text = (folder / f"tiny.{suffix}").read_text(encoding="utf-8")
        assert "jane" not in text
        assert last_name in text


def test_model_card_shows_metrics_copies_limits_and_licence(folder):
    assert published.command(folder) == 0
    text = (folder / "tiny.md").read_text(encoding="utf-8")
    before, copies = text.split("## Copies of training images")
    assert "| FID | cxr | all classes | 61 | 2.25 [2, 2.50] | 0.5 [0.25, 0.75] |" in (
        before
    )
    assert "near copies" not in before
    assert "| near copies | pixels | all classes | 64 | 1 [0, 3] | 0 [0, 0] |" in copies
    assert "| NORMAL | 60 | 30 |" in before
    card = pretrained.load_card(folder / "tiny.json")
    card["report"]["metrics"][0]["space"] = "a|b"
    assert r"| FID | a\|b | all classes |" in report.model_card(card)
    for words in (
        *("# tiny\n", "Verdict: texture too smooth.", "Note: few images."),
        *("for diagnosis", "does not prove", published.PEOPLE, published.LICENCE),
    ):
        assert words in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {"path": "a", "model_hash": "cd" * 8}}, "another model (a, cdcdcd"),
        ({"images": {"path": "mine.npz"}}, "evaluates the images in mine.npz"),
        ({"dataset": {"name": "b", "identity": "0"}}, "with another data set (b)"),
    ],
    ids=["model", "images", "data"],
)
def test_report_of_another_subject_is_refused(folder, capsys, changes, message):
    published.write_report(folder / "report", **changes)
    assert published.command(folder) == 1
    assert message in error_line(capsys)
    assert [path.name for path in folder.iterdir()] == ["report"]


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"verdict": ""}', b"\xff"])
def test_damaged_report_is_refused(folder, capsys, data):
    (folder / "report" / "report.json").write_bytes(data)
    assert published.command(folder) == 1
    assert "report.json: damaged, or not a report" in error_line(capsys)


@pytest.mark.parametrize("name", ["tiny.npz", "tiny.json", "tiny.md"])
def test_existing_file_is_not_overwritten(folder, capsys, name):
    (folder / name).write_text("mine")
    assert published.command(folder) == 1
    assert f"{name} exists already" in error_line(capsys)
    assert {path.name for path in folder.iterdir()} == {"report", name}
    assert (folder / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=a.zip"], "give NAME.npz"),
        (["--out=a@best.npz"], "with no @ in it"),
        (["--card=a.txt"], "ends in .md"),
        (["--report=none"], "none/report.json: there is no such file"),
        (["--out=gs://bucket/b.npz"], "is not a local folder"),
        (["--card=gs://bucket/b.md"], "is not a local folder"),
    ],
)
def test_unusable_file_is_refused_and_nothing_is_written(
    folder, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(folder)
    assert published.command(folder, *arguments) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["report"]


@pytest.mark.parametrize("flag", ["licence", "people"])
def test_empty_licence_or_people_is_refused(folder, flag):
    with pytest.raises(flags.IllegalFlagValueError, match=f"{flag}.*must not be empty"):
        published.command(folder, f"--{flag}= ")


@pytest.mark.parametrize("flag", published.flags_of_run(pathlib.Path()))
def test_missing_flag_of_a_run_is_refused_with_an_example(folder, capsys, flag):
    arguments = published.flags_of_run(folder)
    del arguments[flag]
    assert published.run(*arguments.values()) == 1
    error = error_line(capsys)
    assert f"error: --{flag} not given: publishing a run needs" in error
    assert f"; add --{flag}=" in error
    assert [path.name for path in folder.iterdir()] == ["report"]


@pytest.mark.parametrize("value", [1e6, np.nan])
def test_weights_that_do_not_fit_into_float16_are_refused(
    folder, capsys, monkeypatch, value
):
    weights = jax.tree.map(np.copy, trained().params)
    weights["stem"]["bias"][0] = value
    meta = published.META
    items = {"ema": weights, "state": {n: {"params": {}} for n in published.NETWORKS}}
    monkeypatch.setattr(checkpoint, "load_item", lambda _, x, which: (items[x], meta))
    assert published.command(folder) == 1
    assert "stem/bias: not finite, or too large for float16" in error_line(capsys)


def test_run_without_digests_of_its_images_is_refused(
    folder, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        training_images, "read", published.read_training_images.__defaults__[0]
    )
    assert published.command(folder) == 1
    assert "training_images.npz: there is no such file" in error_line(capsys)
    assert not [*folder.glob("*.npz")]


def test_published_model_is_not_published_again(folder, capsys):
    assert published.command(folder) == 0
    capsys.readouterr()
    assert published.command(folder, f"--model={folder}/tiny.npz", name="b") == 1
    assert "tiny.npz is published already" in error_line(capsys)


@pytest.mark.slow
def test_rounded_weights_can_be_evaluated_by_name_and_published_with_that_report(
    tmp_path, monkeypatch
):
    """Run -> evaluate -> publish -> evaluate the published model -> publish again."""

    def fit_quickly(train, num_classes):
        return label_classifier.fit(
            train.images, train.labels, num_classes, 0, steps=20
        )

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(label_classifier_cache, "load_or_fit", fit_quickly)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    identity = data.load(evaluation_data.SPEC, 32, split_seed=0).identity
    dataset = {**published.META["dataset"], "identity": identity}
    published.patch(monkeypatch, published.META | {"dataset": dataset})

    def report_of(model, name):
        values = flags.FlagValues()
        evaluate.define_flags(values)
        out = f"--out={tmp_path}/{name}"
        settings = ("--num=20", "--spaces=cxr", f"--dataset={evaluation_data.SPEC}")
        values(["evaluate", f"--model={model}", out, *settings])
        assert evaluate.main(["evaluate"], values) == 0

    report_of("runs/tiny", "report")
    assert published.command(tmp_path) == 0
    report_of("tiny", "again")
    again = f"--report={tmp_path}/again"
    assert published.command(tmp_path, again, name="rounded") == 0
    card = pretrained.load_card(tmp_path / "rounded.json")
    assert card["report"]["images"]["model_hash"] == card["model_hash"]
    assert card["report"]["images"]["path"] == "tiny"
    written = json.loads((tmp_path / "again" / "report.json").read_text())
    assert card["report"]["metrics"] == written["metrics"]
