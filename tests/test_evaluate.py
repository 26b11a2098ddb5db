import dataclasses
import functools
import json
import subprocess
import sys

import made
import numpy as np
import pytest
import tiny_generator
from absl import flags
from PIL import Image

from cxr_gan import checkpoint, data, evaluate, evaluation, judges
from cxr_gan.evaluation import Findings, utility
from cxr_gan.evaluation.figures import POOLED, Figure, Key
from cxr_gan.metrics import fidelity

META = {
    "step": 7,
    "kimg": 0.448,
    "config": {"split_seed": 0, "seed": 0, "samples_per_class": [0]},
    "dataset": {"name": "phantom", "identity": "ab" * 32},
    "spec": dataclasses.asdict(tiny_generator.SPEC),
}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Phantoms are kept here; the judge is taught for a short while."""

    def quick(train, num_classes):
        return fidelity.fit(train.images, train.labels, num_classes, 0, steps=60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(judges, "judge_of", quick)
        yield


def command(*arguments):
    """command("--images=a.npz", ...) -> exit code, with phantoms and `cxr` alone."""
    values = flags.FlagValues()
    evaluate.define_flags(values)
    given = {"dataset": made.SPEC, "spaces": "cxr"}
    named = {argument.partition("=")[0].lstrip("-") for argument in arguments}
    own = [f"--{name}={value}" for name, value in given.items() if name not in named]
    values(["evaluate", *own, *arguments])
    return evaluate.main(["evaluate"], values)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """Phantoms that are in no data set, as a file."""
    images, labels = made.fresh(120)
    path = tmp_path_factory.mktemp("given") / "fresh.npz"
    np.savez(path, images=images[..., 0], labels=labels)
    return path


@pytest.fixture(scope="module")
def out(npz, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "out"
    assert command(f"--images={npz}", f"--out={folder}") == 0
    return folder


def report_of(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_folder_holds_two_reports(out):
    assert {path.name for path in out.iterdir()} == {"report.json", "report.html"}


@pytest.mark.slow
def test_the_same_images_give_the_same_report(npz, out, tmp_path, capsys):
    assert command(f"--images={npz}", f"--out={tmp_path}/again") == 0
    for name in ("report.json", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "verdict: no fault found"
    assert any(line.startswith("label fidelity") for line in printed)


@pytest.mark.slow
def test_the_report_says_what_was_compared(npz, out):
    report = report_of(out)
    assert report["verdict"] == "verdict: no fault found"
    assert report["images"]["counts"] == {"NORMAL": 60, "PNEUMONIA": 60}
    assert report["images"]["path"] == str(npz)
    assert report["dataset"]["name"] == made.SPEC
    assert sum(report["dataset"]["counts"]["val"].values()) == 28
    assert report["resolution"] == 64
    assert set(report["nearest_pairs"]) == {"cxr", "pixels"}
    ids = [pair["train"] for pair in report["nearest_pairs"]["pixels"]]
    assert all(name.startswith("phantom/0/") for name in ids)


@pytest.mark.slow
def test_every_figure_has_n_seed_interval_and_floor(out):
    rows = report_of(out)["figures"]
    assert {row["metric"] for row in rows} >= {
        *("kid", "precision", "coverage", "spacing", "power", "label_fidelity"),
        *("ms_ssim", "repeated", "distance_ratio", "below_first_percentile"),
        *("exact_copies", "near_copies", "factor_distance"),
    }
    for row in rows:
        assert {"value", "low", "high", "n", "seed"} <= row.keys() & row["floor"].keys()


@pytest.mark.slow
def test_the_page_shows_pictures_and_fetches_nothing(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 3
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.slow
def test_class_folders_give_the_same_figures_as_the_file(out, tmp_path):
    images, labels = made.fresh(120)
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = ("NORMAL", "PNEUMONIA")[label]
        Image.fromarray(image[..., 0]).save(tmp_path / "in" / name / f"{index:03}.png")
    assert command(f"--images={tmp_path}/in", f"--out={tmp_path}/out") == 0
    report, other = report_of(tmp_path / "out"), report_of(out)
    assert report["faults"] == []
    for one, two in zip(report["figures"], other["figures"], strict=True):
        if one["metric"] in ("label_fidelity", "distance_ratio", "exact_copies"):
            assert one["value"] == two["value"]


@pytest.mark.slow
def test_a_model_draws_the_images_and_its_noise_is_far_from_real(
    tmp_path, monkeypatch, capsys
):
    weights = tiny_generator.params().params
    monkeypatch.setattr(checkpoint, "load_ema", lambda *_: (weights, META))
    arguments = ("--model=runs/tiny", "--num=40", f"--out={tmp_path}/out")
    assert command(*arguments, "--most_copied=0.5") == 0
    report = report_of(tmp_path / "out")
    assert report["images"]["counts"] == {"NORMAL": 20, "PNEUMONIA": 20}
    assert report["resolution"] == 32
    assert "far from real images" in report["verdict"]
    assert any("trained on other images" in note for note in report["notes"])
    assert any("only 20 of NORMAL, 20 of P" in note for note in report["notes"])
    assert not [row for row in report["figures"] if row["metric"] == "precision"]
    assert report["verdict"] == capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
def test_a_model_of_few_images_is_put_to_use_beside_these(
    tmp_path, monkeypatch, capsys
):
    dataset = data.load(made.SPEC, 32, split_seed=0)
    config = META["config"] | {"samples_per_class": [20, 0]}
    told = META | {"config": config, "dataset": {"identity": dataset.identity}}
    weights = tiny_generator.params().params
    monkeypatch.setattr(checkpoint, "load_ema", lambda *_: (weights, told))
    quick = functools.partial(utility.utility, seeds=2, steps=2)
    monkeypatch.setattr(utility, "utility", quick)
    arguments = ("--model=runs/tiny", "--num=60", "--utility")
    assert command(*arguments, f"--out={tmp_path}/out") == 0
    report = report_of(tmp_path / "out")
    *in_place, mended = report["utility"]["comparisons"]
    assert [of["view"] for of in in_place] == [
        *("whole image", "frame only", "centre only")
    ]
    assert [arm["counts"]["NORMAL"] for arm in in_place[0]["arms"]] == [20, 20]
    plain, *_, generated = mended["arms"]
    ill = int((dataset.train.labels == 1).sum())
    assert plain["counts"] == {"NORMAL": 20, "PNEUMONIA": ill}
    assert generated["counts"] == {"NORMAL": ill, "PNEUMONIA": ill}
    assert {row["metric"] for row in report["figures"]} >= {"auroc", "auroc_few"}
    printed = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in ("added to few real images, whole image", generated["words"]):
        assert words in printed and words in page


@pytest.mark.slow
def test_copies_end_with_a_code_of_their_own(tmp_path, monkeypatch):
    images, labels = made.copied(*made.fresh(120))
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    arguments = (f"--images={tmp_path}/a.npz", "--most_copied=0.05")
    assert command(*arguments, f"--out={tmp_path}/out") == evaluate.COPIED
    assert "training images copied" in report_of(tmp_path / "out")["faults"]


@pytest.fixture
def found(monkeypatch):
    """found(copies): an evaluation that finds but two figures, and so many copies."""

    def findings(copies):
        keys = [Key(m, "cxr", POOLED, "generated~train") for m in COPIES]
        figures = {key: Figure(copies, 0, 1, 9, 0) for key in keys}
        figures |= {
            key._replace(sets="val~train"): Figure(0, 0, 0, 9, 0) for key in keys
        }
        faults = ["training images copied"] if copies else []
        monkeypatch.setattr(judges, "judge_of", lambda *_: None)
        monkeypatch.setattr(
            evaluation, "evaluate", lambda *_, **__: Findings(figures, {}, [], faults)
        )

    return findings


COPIES = ("exact_copies", "near_copies", "below_first_percentile")


@pytest.mark.parametrize(
    ("copies", "most", "code"), [(0, 0.0, 0), (1, 0.5, 3), (1, None, 0)]
)
def test_only_who_sets_a_limit_has_the_code_of_copies(
    npz, tmp_path, capsys, found, copies, most, code
):
    found(copies)
    limit = [] if most is None else [f"--most_copied={most}"]
    assert command(f"--images={npz}", *limit, f"--out={tmp_path}/new/out") == code
    printed = capsys.readouterr().out.splitlines()
    report = report_of(tmp_path / "new" / "out")
    words = ("no fault found", "training images copied")[copies]
    assert report["verdict"] == printed[-1] == f"verdict: {words}"
    assert printed[0].split() == ["figure", "seen", "in", "of", "n", "generated", *REAL]
    page = (tmp_path / "new" / "out" / "report.html").read_text(encoding="utf-8")
    assert f"verdict: {words}" in page


REAL = ("real", "(floor)")


def refused(capsys, *arguments):
    """The one line an evaluation that ends with 1 says."""
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
        (["--images=none"], "there is no such path"),
        (["--model=none"], "none"),
        (
            ["--images=NPZ", "--spaces=inception"],
            "accepted are cxr, texture, onnx:FILE",
        ),
        (["--images=NPZ", "--spaces=cxr,cxr"], "names one twice"),
        (["--images=NPZ", "--spaces=onnx:none.onnx"], "there is no such file"),
        (["--images=NPZ", "--dataset=none"], "there is no such file or folder"),
        (["--images=NPZ", "--dataset=NPZ"], "are one folder"),
        (["--images=NPZ", "--dataset=phantom:30"], "images of class"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    npz, tmp_path, capsys, arguments, words
):
    arguments = [argument.replace("NPZ", str(npz)) for argument in arguments]
    assert words in refused(capsys, *arguments, f"--out={tmp_path}/out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", ["", "train"])
def test_the_data_set_itself_is_refused(tmp_path, capsys, inside):
    (tmp_path / "set" / "train" / "NORMAL").mkdir(parents=True)
    arguments = (f"--images={tmp_path}/set/{inside}", f"--dataset={tmp_path}/set")
    assert "are one folder" in refused(capsys, *arguments, f"--out={tmp_path}/out")


def test_a_copy_of_the_data_set_is_refused(tmp_path, capsys):
    train = made.real().train
    np.savez(tmp_path / "a.npz", images=train.images[:90], labels=train.labels[:90])
    arguments = (f"--images={tmp_path}/a.npz", f"--out={tmp_path}/out")
    assert "the data set's own" in refused(capsys, *arguments)


def test_classes_of_another_set_are_refused(tmp_path, capsys, monkeypatch):
    weights = tiny_generator.params().params
    spec = {**META["spec"], "class_names": ["A", "B"]}
    monkeypatch.setattr(
        checkpoint, "load_ema", lambda *_: (weights, META | {"spec": spec})
    )
    arguments = ("--model=runs/tiny", "--num=20", f"--out={tmp_path}/out")
    assert "the model draws A, B; the data set has NORMAL" in refused(
        capsys, *arguments
    )


def test_the_utility_of_a_model_of_other_images_is_not_told(
    tmp_path, capsys, monkeypatch
):
    weights = tiny_generator.params().params
    monkeypatch.setattr(checkpoint, "load_ema", lambda *_: (weights, META))
    arguments = ("--model=runs/tiny", "--num=20", "--utility", f"--out={tmp_path}/out")
    assert "card lists other training images" in refused(capsys, *arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path, capsys, npz):
    (tmp_path / "mine.txt").write_text("mine")
    words = refused(capsys, f"--images={npz}", f"--out={tmp_path}")
    assert "is not empty; give a new folder" in words
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    words = refused(capsys, f"--images={npz}", f"--out={tmp_path}/mine.txt")
    assert "is a file; give a new folder" in words


def test_a_word_without_flag_is_refused(capsys):
    values = flags.FlagValues()
    evaluate.define_flags(values)
    values(["evaluate", "--dataset=phantom", "--out=a"])
    assert evaluate.main(["evaluate", "phantom"], values) == 1
    assert "'phantom' is no flag" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--num=0", "--seed=-1", "--most_copied=2"])
def test_a_number_out_of_range_is_refused_by_its_flag(flag):
    with pytest.raises(flags.IllegalFlagValueError, match=flag[2:].partition("=")[0]):
        command(flag, "--images=a", "--out=b")


def test_a_misspelt_flag_names_the_right_one_without_a_traceback():
    words = [sys.executable, "-m", "cxr_gan.evaluate", "--datset=phantom", "--out=b"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Did you mean: dataset" in done.stderr
    assert "Traceback" not in done.stderr
