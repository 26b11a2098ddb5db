import dataclasses
import functools
import json
import re

import evaluation_data
import numpy as np
import pytest
import tiny_generator
from absl import flags

from cxr_gan import data, evaluate, evaluation
from cxr_gan.evaluation import (
    evaluator,
    label_classifier_cache,
    pairs,
    utility,
)
from cxr_gan.evaluation.evaluator import EvaluationResult
from cxr_gan.evaluation.metrics import label_classifier
from cxr_gan.evaluation.results import POOLED, Estimate, MetricKey
from cxr_gan.sampling import sampler, trained_networks
from cxr_gan.storage import checkpoint

META = {
    "step": 7,
    "kimg": 0.448,
    "config": {"split_seed": 0, "seed": 0, "samples_per_class": [0]},
    "dataset": {"name": "phantom", "identity": "ab" * 32},
    "generator": dataclasses.asdict(tiny_generator.CONFIG),
}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Caches phantoms in one folder and trains the label classifier for 20 steps."""

    def fit_briefly(train, num_classes):
        return label_classifier.fit(
            train.images, train.labels, num_classes, 0, steps=20
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(label_classifier_cache, "load_or_fit", fit_briefly)
        yield


def command(*arguments):
    """Exit code of evaluate; by default with phantoms and only in `cxr`."""
    values = flags.FlagValues()
    evaluate.define_flags(values)
    defaults = {"dataset": evaluation_data.SPEC, "spaces": "cxr"}
    given = {argument.partition("=")[0].lstrip("-") for argument in arguments}
    rest = [
        f"--{name}={value}" for name, value in defaults.items() if name not in given
    ]
    values(["evaluate", *rest, *arguments])
    return evaluate.main(["evaluate"], values)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """A file of phantoms that are not in any data set."""
    images, labels = evaluation_data.new_phantoms(120)
    path = tmp_path_factory.mktemp("images") / "new.npz"
    np.savez(path, images=images[..., 0], labels=labels)
    return path


@pytest.fixture(scope="module")
def out(npz, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "out"
    assert command(f"--images={npz}", f"--out={folder}") == 0
    return folder


@pytest.fixture
def model(monkeypatch):
    """model(**changes): every --model is a tiny generator with these metadata."""

    def patch(**changes):
        item = tiny_generator.params().params, META | changes
        monkeypatch.setattr(checkpoint, "load_item", lambda *_: item)

    return patch


def report_of(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_same_images_give_the_same_report(npz, out, tmp_path, capsys):
    assert command(f"--images={npz}", f"--out={tmp_path}/again") == 0
    for name in ("report.json", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "verdict: no fault found"
    assert any(line.startswith("label accuracy") for line in printed)


@pytest.mark.slow
def test_report_describes_images_and_data_set(npz, out):
    report = report_of(out)
    assert report["verdict"] == "verdict: no fault found"
    assert report["images"]["counts"] == {"NORMAL": 60, "PNEUMONIA": 60}
    assert report["images"]["path"] == npz.name
    assert report["dataset"]["name"] == evaluation_data.SPEC
    assert sum(report["dataset"]["counts"]["val"].values()) == 28
    assert report["resolution"] == 64
    assert set(report["nearest_pairs"]) == {"cxr", "pixels"}
    rows = [pair["train"] for pair in report["nearest_pairs"]["pixels"]]
    assert set(rows) <= set(range(sum(evaluation_data.real().train.counts(2))))
    assert {row["metric"] for row in report["metrics"]} >= {
        *("kid", "precision", "coverage", "spacing", "power", "label_accuracy"),
        *("ms_ssim", "repeated", "distance_ratio", "below_first_percentile"),
        *("exact_copies", "near_copies"),
    }


@pytest.mark.slow
def test_untrained_model_is_sampled_and_found_far_from_real_images(
    tmp_path, model, capsys
):
    model()
    arguments = ("--model=runs/tiny", "--num=40", f"--out={tmp_path}/out")
    assert command(*arguments, "--most_copied=0.5") == 0
    report = report_of(tmp_path / "out")
    assert report["images"]["counts"] == {"NORMAL": 20, "PNEUMONIA": 20}
    assert report["resolution"] == 32
    assert "far from real images" in report["verdict"]
    assert any("trained on other images" in note for note in report["notes"])
    assert any("only 20 of NORMAL, 20 of P" in note for note in report["notes"])
    assert not [row for row in report["metrics"] if row["metric"] == "precision"]
    assert report["verdict"] == capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
def test_utility_of_a_model_with_a_rare_class_includes_added_images(
    tmp_path, model, monkeypatch, capsys
):
    dataset = data.load(evaluation_data.SPEC, 32, split_seed=0)
    config = META["config"] | {"samples_per_class": [20, 0]}
    model(config=config, dataset=META["dataset"] | {"identity": dataset.identity})
    short = functools.partial(utility.utility, seeds=2, steps=2)
    monkeypatch.setattr(utility, "utility", short)
    arguments = ("--model=runs/tiny", "--num=60", "--utility")
    assert command(*arguments, f"--out={tmp_path}/out") == 0
    report = report_of(tmp_path / "out")
    *in_place, added = report["utility"]["comparisons"]
    assert [comparison["view"] for comparison in in_place] == [
        *("whole image", "frame only", "centre only")
    ]
    counts = [variant["counts"]["NORMAL"] for variant in in_place[0]["variants"]]
    assert counts == [20, 20]
    plain, *_, generated = added["variants"]
    pneumonia = int((dataset.train.labels == 1).sum())
    assert plain["counts"] == {"NORMAL": 20, "PNEUMONIA": pneumonia}
    assert generated["counts"] == {"NORMAL": pneumonia, "PNEUMONIA": pneumonia}
    assert {row["metric"] for row in report["metrics"]} >= {"auroc", "auroc_few"}
    printed = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in ("dded to few real images, whole image", generated["words"]):
        assert words in printed and words in page


@pytest.mark.slow
def test_pairs_of_a_model_are_compared_in_every_region(
    tmp_path, model, monkeypatch, capsys
):
    monkeypatch.setattr(pairs, "LATENTS", 40)
    model()
    arguments = ("--model=runs/tiny", "--num=40", "--pairs")
    assert command(*arguments, f"--out={tmp_path}/out") == 0
    rows = report_of(tmp_path / "out")["pairs"]["rows"]
    regions = ("frame", "centre", "lungs", "outside of lungs")
    by_metric = {row["metric"]: row for row in rows}
    assert [*by_metric] == [
        *("both labels right", "MS-SSIM", "distance, cxr"),
        *(f"change, {region}" for region in regions),
    ]
    params = tiny_generator.params()
    a, b = (
        np.asarray(sampler.sample(params, np.full(40, label), 0)) for label in (0, 1)
    )
    change = np.abs(np.round(255 * a) - np.round(255 * b))[:, 8:-8, 8:-8].mean() / 255
    assert by_metric["change, centre"]["value"] == pytest.approx(change, rel=1e-5)
    for row in rows:
        assert row["low"] <= row["value"] <= row["high"]
    printed = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(word in printed and word in page for word in by_metric)


@pytest.mark.slow
def test_membership_is_tested_on_the_images_of_the_training(
    tmp_path, model, monkeypatch, capsys
):
    dataset = data.load(evaluation_data.SPEC, 32, split_seed=0)
    config = META["config"] | {"samples_per_class": [40, 0]}
    model(config=config, dataset=META["dataset"] | {"identity": dataset.identity})

    def missing(name, meta):
        raise FileNotFoundError("tiny.state.npz: there is no such file")

    monkeypatch.setattr(trained_networks, "open_discriminator", missing)
    arguments = ("--model=runs/tiny", "--num=40", "--membership")
    assert command(*arguments, f"--out={tmp_path}/out") == 0
    report = report_of(tmp_path / "out")
    rows = [row for row in report["metrics"] if row["metric"] == "membership_auroc"]
    assert {row["space"] for row in rows} == {"cxr", "pixels"}
    val = report["dataset"]["counts"]["val"]["NORMAL"]
    n = {row["group"]: row["n"] for row in rows}
    assert 10 <= n["NORMAL"] <= val  # of the 40 that are in half B, or of val
    assert any("training state" in note for note in report["notes"])
    assert "tiny.state.npz" not in json.dumps(report)  # its folder may be private
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "membership, AUROC" in capsys.readouterr().out
    assert "membership, found" in page


def test_membership_in_a_training_on_very_few_images_is_refused(
    tmp_path, model, capsys
):
    dataset = data.load(evaluation_data.SPEC, 32, split_seed=0)
    config = META["config"] | {"samples_per_class": [12, 0]}
    model(config=config, dataset=META["dataset"] | {"identity": dataset.identity})
    arguments = ("--model=runs/tiny", "--num=40", "--membership")
    message = refused(capsys, *arguments, f"--out={tmp_path}/out")
    assert re.search(r"trained on \d images of NORMAL of half B; .* needs 10", message)


@pytest.mark.slow
def test_membership_in_the_training_of_unknown_images_is_noted(npz, tmp_path):
    arguments = (f"--images={npz}", "--membership", f"--out={tmp_path}/out")
    assert command(*arguments) == 0
    report = report_of(tmp_path / "out")
    assert any("as if they were all images of train" in x for x in report["notes"])
    assert "membership_found" in {row["metric"] for row in report["metrics"]}


def test_pairs_without_a_model_are_refused(npz, tmp_path, capsys):
    arguments = (f"--images={npz}", "--pairs", f"--out={tmp_path}/out")
    assert "give --model=RUN, or leave out --pairs" in refused(capsys, *arguments)


NOISE = np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)
NOTHING_FOUND = EvaluationResult({}, {}, [], [])
COPIES = ("exact_copies", "near_copies", "below_first_percentile")


@pytest.mark.parametrize(
    ("copies", "most_copied", "code"), [(0, 0.0, 0), (1, 0.5, 3), (1, None, 0)]
)
def test_copies_give_exit_code_3_only_with_most_copied(
    npz, tmp_path, capsys, monkeypatch, copies, most_copied, code
):
    keys = [MetricKey(m, "cxr", POOLED, "generated~train") for m in COPIES]
    estimates = {key: Estimate(copies, 0, 1, 9, 0) for key in keys}
    estimates |= {
        key._replace(sets="val~train"): Estimate(0, 0, 0, 9, 0) for key in keys
    }
    faults = ["training images copied"] if copies else []
    result = EvaluationResult(estimates, {}, [], faults)
    monkeypatch.setattr(evaluator, "evaluate", lambda *_, **__: result)
    monkeypatch.setattr(label_classifier_cache, "load_or_fit", lambda *_: None)
    limit = [] if most_copied is None else [f"--most_copied={most_copied}"]
    assert command(f"--images={npz}", *limit, f"--out={tmp_path}/new/out") == code
    printed = capsys.readouterr().out.splitlines()
    report = report_of(tmp_path / "new" / "out")
    words = ("no fault found", "training images copied")[copies]
    assert report["verdict"] == printed[-1] == f"verdict: {words}"
    header = ["metric", "space", "class", "n", "generated", "real", "reference"]
    assert printed[0].split() == header
    page = (tmp_path / "new" / "out" / "report.html").read_text(encoding="utf-8")
    assert f"Verdict: {words}" in page


@pytest.mark.parametrize("as_names", [False, True])
def test_arrays_are_evaluated_as_the_file_that_holds_them(
    npz, tmp_path, monkeypatch, as_names
):
    monkeypatch.setattr(evaluator, "evaluate", lambda *_, **__: NOTHING_FOUND)
    assert command(f"--images={npz}", f"--out={tmp_path}/out") == 0
    with np.load(npz) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    if as_names:
        images = (images / 255).astype(np.float32)[..., None]
        labels = np.array(["NORMAL", "PNEUMONIA"])[labels].tolist()
    report = evaluation.evaluate(
        images, labels, dataset=evaluation_data.SPEC, spaces="cxr"
    )
    expected = report_of(tmp_path / "out")
    assert expected["images"].pop("path") == npz.name
    assert report["images"].pop("path") == "the given array"
    assert json.loads(json.dumps(report)) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "give either --model=RUN or --images="),
        ({"images": NOISE}, "the given array: labels are object"),
        (
            {"images": NOISE[..., :32], "labels": [0, 1]},
            r"the given array: images are \[2, 64, 32, 1\]; must be \[n, s, s\]",
        ),
        (
            {"images": NOISE, "labels": ["A", "B"]},
            "the given array does not fit the data set: no class is named 'A'",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        evaluation.evaluate(**given, dataset=evaluation_data.SPEC, spaces="cxr")


def refused(capsys, *arguments):
    """The error message, a single line, of an evaluation with exit code 1."""
    assert command(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either --model=RUN or --images=FOLDER_OR_NPZ"),
        (["--images=a", "--model=b"], "give either --model=RUN or --images="),
        (["--images=none"], "path does not exist"),
        (["--model=none"], "none"),
        (
            ["--images=NPZ", "--spaces=inception"],
            "accepted are cxr, texture, onnx:FILE",
        ),
        (["--images=NPZ", "--spaces=cxr,cxr"], "a name occurs twice"),
        (["--images=NPZ", "--spaces=onnx:none.onnx"], "there is no such file"),
        (["--images=NPZ", "--dataset=none"], "there is no such file or folder"),
        (["--images=NPZ", "--dataset=phantom:30"], "images of class"),
    ],
)
def test_invalid_input_is_refused_in_one_line(npz, tmp_path, capsys, arguments, words):
    arguments = [argument.replace("NPZ", str(npz)) for argument in arguments]
    assert words in refused(capsys, *arguments, f"--out={tmp_path}/out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", ["", "train"])
def test_folder_of_the_data_set_is_refused(tmp_path, capsys, inside):
    (tmp_path / "set" / "train" / "NORMAL").mkdir(parents=True)
    arguments = (f"--images={tmp_path}/set/{inside}", f"--dataset={tmp_path}/set")
    assert "are the same folder" in refused(capsys, *arguments, f"--out={tmp_path}/out")


def test_model_with_other_classes_is_refused(tmp_path, capsys, model):
    model(generator={**META["generator"], "class_names": ["A", "B"]})
    words = refused(capsys, "--model=runs/a", "--num=20", f"--out={tmp_path}/out")
    assert "the model generates A, B; the data set has NORMAL" in words


def test_utility_of_a_model_trained_on_other_images_is_refused(tmp_path, capsys, model):
    model()
    arguments = ("--model=runs/a", "--num=20", "--utility", f"--out={tmp_path}/out")
    assert "the model was trained on other images" in refused(capsys, *arguments)
    assert not (tmp_path / "out").exists()


def test_existing_output_is_refused_and_not_changed(tmp_path, capsys, npz):
    (tmp_path / "mine.txt").write_text("mine")
    words = refused(capsys, f"--images={npz}", f"--out={tmp_path}")
    assert "is not empty; give a new folder" in words
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    words = refused(capsys, f"--images={npz}", f"--out={tmp_path}/mine.txt")
    assert "is a file; give a new folder" in words


@pytest.mark.parametrize("flag", ["--num=0", "--seed=-1", "--most_copied=2"])
def test_flag_value_out_of_range_is_refused(flag):
    with pytest.raises(flags.IllegalFlagValueError, match=flag[2:].partition("=")[0]):
        command(flag, "--images=a", "--out=b")
