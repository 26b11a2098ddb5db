import csv
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny_generator
from absl import flags
from PIL import Image

import cxr_gan
from cxr_gan import generate
from cxr_gan.runtime import cli
from cxr_gan.sampling import generation, sampler
from cxr_gan.storage import checkpoint

META = {
    "step": 7,
    "kimg": 0.448,
    "dataset": {"name": "phantom", "identity": "ab" * 32},
    "generator": dataclasses.asdict(tiny_generator.CONFIG),
}


def run(*arguments):
    """python -m cxr_gan.generate; returns the exit code."""
    values = flags.FlagValues()
    generate.define_flags(values)
    return generate.main(values(["generate", *arguments]), values)


@pytest.fixture(scope="module")
def params():
    return tiny_generator.params()


@pytest.fixture
def command(monkeypatch, params):
    """command("--num=3", ...) -> exit code; every run is the tiny generator."""
    monkeypatch.setattr(checkpoint, "load_item", lambda *_: (params.params, META))
    return lambda *arguments: run("--model=runs/tiny", *arguments)


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    """20 images of both classes and seed 3."""
    folder = tmp_path_factory.mktemp("parent") / "new" / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "load_item", lambda *_: (params.params, META))
        assert run("--model=runs/tiny", "--num=20", "--seed=3", f"--out={folder}") == 0
    return folder


def rows(folder):
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_in(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir()
    )


def pixels(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_classes_alternate_and_images_equal_those_of_sample(folder, params):
    table = rows(folder)
    assert [row["class_name"] for row in table] == ["NORMAL", "PNEUMONIA"] * 10
    assert [int(row["label"]) for row in table] == [0, 1] * 10
    assert [int(row["index"]) for row in table] == list(range(20))
    assert {row["seed"] for row in table} == {"3"}
    assert table[1]["file"] == "images/PNEUMONIA/PNEUMONIA_00001.png"
    images = np.asarray(cxr_gan.sample(params, np.arange(20) % 2, 3))[..., 0]
    for row, image in zip(table, images, strict=True):
        np.testing.assert_array_equal(
            pixels(folder / row["file"]), np.round(255 * image)
        )


def test_class_folders_hold_the_listed_images_and_nothing_else(folder):
    beside = ["README.md", "croissant.json", "generation.json", "grid.png"]
    assert files_in(folder) == sorted(
        [
            *(row["file"] for row in rows(folder)),
            *("images/metadata.csv", "labels.csv", *beside),
        ]
    )


def test_metadata_csv_begins_with_file_name_and_has_the_class_as_a_column(folder):
    lines = (folder / "images" / "metadata.csv").read_text().splitlines()
    assert len(lines) == 21
    assert lines[0] == "file_name,label,index,seed"
    assert lines[2] == "PNEUMONIA/PNEUMONIA_00001.png,PNEUMONIA,1,3"


def test_label_and_truncation_flags_select_images(command, params, tmp_path):
    assert command("--label=PNEUMONIA", "--num=2", f"--out={tmp_path}/a") == 0
    assert {row["class_name"] for row in rows(tmp_path / "a")} == {"PNEUMONIA"}
    assert command("--num=2", "--truncation=0.5", f"--out={tmp_path}/b") == 0
    expected = cxr_gan.sample(params, [0, 1], 0, truncation=0.5)[1, ..., 0]
    written = pixels(tmp_path / "b/images/PNEUMONIA/PNEUMONIA_00001.png")
    np.testing.assert_array_equal(written, np.round(255 * np.asarray(expected)))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("images/NORMAL/NORMAL_00000.png", "NORMAL"),
        ("images/PNEUMONIA/PNEUMONIA_00019.png", "PNEUMONIA"),
        ("grid.png", "NORMAL, PNEUMONIA"),
    ],
)
def test_every_png_is_marked_as_synthetic_with_model_label_and_seed(
    folder, params, name, label
):
    with Image.open(folder / name) as image:
        text = dict(image.text)
    assert "not for clinical use" in text.pop("Description")
    assert text == {
        "Synthetic": "true",
        "Label": label,
        "Model": sampler.fingerprint(params),
        "Seed": "3",
        "Truncation": "1.0",
        "Software": f"cxr_gan {cxr_gan.__version__}",
    }


def test_json_records_model_seed_and_training_data(folder, params):
    metadata = json.loads((folder / "generation.json").read_text(encoding="utf-8"))
    assert metadata["synthetic"] is True
    assert "not for clinical use" in metadata["note"]
    assert metadata["model"] == "tiny"
    assert metadata["model_hash"] == sampler.fingerprint(params)
    assert (metadata["step"], metadata["kimg"], metadata["seed"]) == (7, 0.448, 3)
    assert metadata["dataset"] == META["dataset"]
    assert metadata["counts"] == {"NORMAL": 10, "PNEUMONIA": 10}
    assert metadata["software"]["cxr_gan"] == cxr_gan.__version__


def test_grid_has_one_row_per_class_and_several_of_one_class(folder, command, tmp_path):
    grid = pixels(folder / "grid.png")
    second = pixels(folder / "images/PNEUMONIA/PNEUMONIA_00003.png")
    second = second.repeat(2, 0).repeat(2, 1)
    assert grid.shape[0] == 2 * 66 + 2
    margin = grid.shape[1] - (8 * 66 + 2)
    tile = grid[68 : 68 + 64, margin + 68 : margin + 68 + 64]
    np.testing.assert_array_equal(tile, second)
    assert command("--label=NORMAL", "--num=10", f"--out={tmp_path}") == 0
    assert pixels(tmp_path / "grid.png").shape[0] == 2 * 66 + 2


def test_same_command_writes_identical_bytes(folder, command, tmp_path):
    assert command("--num=20", "--seed=3", f"--out={tmp_path}") == 0
    assert files_in(folder) == files_in(tmp_path)
    for name in files_in(folder):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_class_name_cannot_escape_folder(command, params, tmp_path, monkeypatch):
    generator = {**META["generator"], "class_names": ["../../up", "b c"]}
    meta = {**META, "generator": generator}
    monkeypatch.setattr(checkpoint, "load_item", lambda *_: (params.params, meta))
    assert command("--num=2", f"--out={tmp_path}/out") == 0
    files = [row["file"] for row in rows(tmp_path / "out")]
    assert files == ["images/_up/_up_00000.png", "images/b_c/b_c_00001.png"]
    assert all((tmp_path / "out" / name).is_file() for name in files)


def test_classes_whose_names_differ_in_unsafe_characters_have_folders_of_their_own():
    assert generation.folder_names(("a b", "A/b")) == ("0_a_b", "1_A_b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label=pneumonia"], "did you mean 'PNEUMONIA'"),
        (["--label=COVID"], "no class is named 'COVID'; classes are NORMAL"),
        (["--out=full"], "--out=full is not empty"),
        (["--out=full/mine.txt"], "--out=full/mine.txt is a file"),
        (["--model=none"], "'none' is neither a folder"),
        (["PNEUMONIA"], "unexpected argument 'PNEUMONIA'; flags are written"),
        (["--out=gs://b/out"], "--out=gs://b/out is not a local folder"),
        (["--bits=16"], "only DICOM files have 16 bits; add --format=dicom"),
    ],
)
def test_invalid_request_is_refused_in_one_message_and_nothing_is_written(
    command, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("full").mkdir()
    pathlib.Path("full/mine.txt").write_text("mine")
    assert command("--out=out", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == (4 if "gs://" in message else 1)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


@pytest.mark.parametrize(
    "flag", ["--num=0", "--num=-3", "--seed=-1", "--truncation=-1", "--truncation=nan"]
)
def test_number_out_of_range_is_refused_with_name_of_flag(command, flag):
    with pytest.raises(flags.IllegalFlagValueError, match=flag[2:].partition("=")[0]):
        command(flag, "--out=out")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="not on Linux")
def test_full_disk_is_reported_in_one_line_and_written_images_are_listed(
    command, tmp_path, capsys, monkeypatch
):
    sample_images = generation.sample_images
    full = tmp_path / "images/PNEUMONIA/PNEUMONIA_00003.unfinished"

    def fill_up(job):
        for index, image in enumerate(sample_images(job)):
            if index == 3:
                full.symlink_to("/dev/full")
            yield image

    monkeypatch.setattr(generation, "sample_images", fill_up)
    assert command("--num=8", f"--out={tmp_path}") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "PNEUMONIA_00003.png cannot be written (No space left on device)" in error
    assert "the 3 images before it are complete" in error
    listed = {row["file"] for row in rows(tmp_path)}
    assert files_in(tmp_path) == sorted([*listed, "labels.csv"])
    assert len(listed) == 3 and all(pixels(tmp_path / name).any() for name in listed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_exactly_the_listed_images(
    command, tmp_path, monkeypatch, capsys, number
):
    save = Image.Image.save

    def interrupted(image, path, **rest):
        if path.stem.endswith("_00004"):
            signal.raise_signal(number)
        save(image, path, **rest)

    before = signal.getsignal(number)
    monkeypatch.setattr(Image.Image, "save", interrupted)
    assert command("--num=20", f"--out={tmp_path}") == cli.STOPPED
    assert signal.getsignal(number) == before
    listed = [row["file"] for row in rows(tmp_path)]
    assert len(listed) == 5
    inside = {name for name in files_in(tmp_path) if name.startswith("images/")}
    assert inside == {*listed, "images/metadata.csv"}
    metadata = json.loads((tmp_path / "generation.json").read_text(encoding="utf-8"))
    assert (metadata["num"], metadata["written"]) == (20, 5)
    assert "5 of 20" in capsys.readouterr().out


def test_misspelt_flag_is_refused_with_suggestion_and_no_traceback():
    command = [sys.executable, "-m", "cxr_gan.generate", "--modle=runs/a", "--out=b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Did you mean: model" in done.stderr
    assert "Traceback" not in done.stderr
