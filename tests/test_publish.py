import functools
import json

import jax
import made
import numpy as np
import published
import pytest
import tiny_generator
from absl import flags

import cxr_gan
from cxr_gan import checkpoint, data, evaluate, judges, page, sampling, shelf
from cxr_gan.metrics import fidelity


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With a report of the tiny generator, which any run is."""
    published.patch(monkeypatch)
    published.write_report(tmp_path / "report")
    return tmp_path


@functools.cache
def trained():
    return tiny_generator.params()


def complaint(capsys) -> str:
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert not said.out
    return said.err


@pytest.mark.parametrize(
    ("dtype", "relative", "absolute"),
    [("float16", 2**-11, 2**-25), ("float32", 0, 0)],  # half a step, of both kinds
    ids=["float16", "float32"],
)
def test_published_weights_are_the_runs_up_to_rounding(
    folder, dtype, relative, absolute
):
    assert published.command(folder, f"--dtype={dtype}") == 0
    loaded = cxr_gan.load(folder / "tiny.npz")
    assert loaded.spec == tiny_generator.SPEC
    leaves = map(jax.tree.leaves, (loaded.params, trained().params))
    for read, weight in zip(*leaves, strict=True):
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, weight, rtol=relative, atol=absolute)
    same = sampling.fingerprint(loaded) == sampling.fingerprint(trained())
    assert same == (dtype == "float32")


def test_the_card_says_what_the_weights_are_and_from_what(folder):
    assert published.command(folder) == 0
    loaded, card = sampling.load_with_meta(folder / "tiny.npz")
    assert card["name"] == "tiny"
    assert card["model_hash"] == sampling.fingerprint(loaded)
    assert card["trained_hash"] == sampling.fingerprint(trained())
    assert card["trained_hash"] == card["report"]["images"]["model_hash"]
    assert (card["people"], card["licence"]) == (published.PEOPLE, published.LICENCE)
    assert (card["step"], card["kimg"], card["score"]) == (7, 0.448, 0.5)
    assert card["dataset"]["identity"] == published.IDENTITY
    assert card["config"]["loss"] == published.META["config"]["loss"]
    assert card["report"]["figures"] == published.report("")["figures"]
    assert card["software"].keys() == {"cxr_gan", "jax", "numpy"}


def test_no_file_tells_folders_or_names_of_training_images(folder):
    assert published.command(folder) == 0
    for suffix, last_name in (("json", '"set"'), ("md", "`set`")):
        text = (folder / f"tiny.{suffix}").read_text(encoding="utf-8")
        assert "jane" not in text
        assert last_name in text


def test_the_model_card_shows_figures_copies_limits_and_licence(folder):
    assert published.command(folder) == 0
    text = (folder / "tiny.md").read_text(encoding="utf-8")
    before, copies = text.split("## Copies of training images")
    assert "| FID | cxr | all classes | 61 | 2.25 [2, 2.50] | 0.5 [0.25, 0.75] |" in (
        before
    )
    assert "near copies" not in before
    assert "| near copies | pixels | all classes | 64 | 1 [0, 3] | 0 [0, 0] |" in copies
    assert "| NORMAL | 60 | 30 |" in before
    for words in (
        *("# tiny\n", "Verdict: texture too smooth.", "Note: few images."),
        *("for diagnosis", "does not prove", published.PEOPLE, published.LICENCE),
    ):
        assert words in text


def test_a_bar_in_the_name_of_a_space_does_not_break_the_tables(folder):
    assert published.command(folder) == 0
    card = shelf.read_card(folder / "tiny.json")
    card["report"]["figures"][0]["space"] = "a|b"
    assert r"| FID | a\|b | all classes |" in page.model_card(card)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": {"path": "a", "model_hash": "cd" * 8}}, "of another model (a, cdc"),
        ({"images": {"path": "mine.npz"}}, "of the images in mine.npz"),
        (
            {"dataset": {"name": "b", "identity": "0"}},
            "compares with other images (b)",
        ),
    ],
    ids=["model", "images", "data"],
)
def test_a_report_of_something_else_is_refused(folder, capsys, changes, words):
    published.write_report(folder / "report", **changes)
    assert published.command(folder) == 1
    assert words in complaint(capsys)
    assert [path.name for path in folder.iterdir()] == ["report"]


@pytest.mark.parametrize("text", ["{", "[]", '{"verdict": ""}', b"\xff"])
def test_a_damaged_report_is_refused(folder, capsys, text):
    path = folder / "report" / "report.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert published.command(folder) == 1
    assert "report.json: damaged, or no report" in complaint(capsys)


def test_a_missing_report_is_refused(folder, capsys):
    assert published.command(folder, f"--report={folder}/none") == 1
    assert "none/report.json: there is no such file" in complaint(capsys)


@pytest.mark.parametrize("name", ["tiny.npz", "tiny.json", "tiny.md"])
def test_what_is_there_is_not_overwritten(folder, capsys, name):
    (folder / name).write_text("mine")
    assert published.command(folder) == 1
    assert f"{name} is there already" in complaint(capsys)
    assert {path.name for path in folder.iterdir()} == {"report", name}
    assert (folder / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--out=a.zip", "give NAME.npz"),
        ("--out=a@best.npz", "with no @ in it"),
        ("--card=a.txt", "ends in .md"),
    ],
)
def test_names_that_could_not_be_loaded_by_are_refused(folder, capsys, argument, words):
    assert published.command(folder, argument) == 1
    assert words in complaint(capsys)


@pytest.mark.parametrize("flag", ["licence", "people"])
def test_there_is_no_silent_licence_and_nobody_goes_unnamed(folder, flag):
    with pytest.raises(flags.IllegalFlagValueError, match=f"{flag}.*must not be empty"):
        published.command(folder, f"--{flag}= ")


@pytest.mark.parametrize("value", [1e6, np.nan])
def test_weights_that_float16_cannot_hold_are_refused(
    folder, capsys, monkeypatch, value
):
    weights = jax.tree.map(np.copy, trained().params)
    weights["stem"]["bias"][0] = value
    meta = published.META
    monkeypatch.setattr(checkpoint, "load_ema", lambda *_: (weights, meta))
    assert published.command(folder) == 1
    assert "stem/bias: not finite, or too large for float16" in complaint(capsys)


def test_a_published_model_is_not_published_again(folder, capsys):
    assert published.command(folder) == 0
    capsys.readouterr()
    assert published.command(folder, f"--model={folder}/tiny.npz", name="b") == 1
    assert "tiny.npz is published already" in complaint(capsys)


@pytest.mark.slow
def test_the_rounded_weights_can_be_evaluated_by_name_and_published_with_that(
    tmp_path, monkeypatch
):
    """run -> evaluate -> publish -> evaluate what is shipped -> publish with that."""

    def quick(train, num_classes):
        return fidelity.fit(train.images, train.labels, num_classes, 0, steps=20)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(judges, "judge_of", quick)
    monkeypatch.setattr(shelf, "FOLDER", tmp_path)
    identity = data.load(made.SPEC, 32, split_seed=0).identity
    told = {**published.META["dataset"], "identity": identity}
    published.patch(monkeypatch, published.META | {"dataset": told})

    def report_of(model, name):
        values = flags.FlagValues()
        evaluate.define_flags(values)
        place = f"--out={tmp_path}/{name}"
        few = ("--num=20", "--spaces=cxr", f"--dataset={made.SPEC}")
        values(["evaluate", f"--model={model}", place, *few])
        assert evaluate.main(["evaluate"], values) == 0

    report_of("runs/tiny", "report")
    assert published.command(tmp_path) == 0
    report_of("tiny", "again")
    again = f"--report={tmp_path}/again"
    assert published.command(tmp_path, again, name="rounded") == 0
    card = shelf.read_card(tmp_path / "rounded.json")
    assert card["report"]["images"]["model_hash"] == card["model_hash"]
    assert card["report"]["images"]["path"] == "tiny"
    told = json.loads((tmp_path / "again" / "report.json").read_text())
    assert card["report"]["figures"] == told["figures"]
