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
from cxr_gan import checkpoint, generate, sampling

META = {
    "step": 7,
    "kimg": 0.448,
    "dataset": {"name": "phantom", "identity": "ab" * 32},
    "spec": dataclasses.asdict(tiny_generator.SPEC),
}


@pytest.fixture(scope="module")
def params():
    return tiny_generator.params()


@pytest.fixture
def command(monkeypatch, params):
    """command("--num=3", ...) -> exit code; the model is the tiny generator."""
    monkeypatch.setattr(checkpoint, "load_ema", lambda *_: (params.params, META))

    def run(*arguments):
        values = flags.FlagValues()
        generate.define_flags(values)
        values(["generate", "--model=runs/tiny", *arguments])
        return generate.main(["generate"], values)

    return run


def rows(folder):
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pixels(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_each_class_is_drawn_equally_often_in_the_images_of_sample(
    command, params, tmp_path
):
    assert command("--num=20", "--seed=3", f"--out={tmp_path}/new/out") == 0
    table = rows(tmp_path / "new" / "out")
    assert [row["class_name"] for row in table] == ["NORMAL", "PNEUMONIA"] * 10
    assert [int(row["label"]) for row in table] == [0, 1] * 10
    assert [int(row["index"]) for row in table] == list(range(20))
    assert {row["seed"] for row in table} == {"3"}
    assert table[1]["file"] == "PNEUMONIA_00001.png"
    drawn = np.asarray(cxr_gan.sample(params, np.arange(20) % 2, 3))[..., 0]
    for row, image in zip(table, drawn, strict=True):
        written = pixels(tmp_path / "new" / "out" / row["file"])
        np.testing.assert_array_equal(written, np.round(255 * image))


def test_folder_holds_the_listed_images_and_three_files_more(command, tmp_path):
    assert command("--num=3", f"--out={tmp_path}") == 0
    listed = {row["file"] for row in rows(tmp_path)}
    assert {path.name for path in tmp_path.iterdir()} == {
        *listed,
        *("labels.csv", "grid.png", "generation.json"),
    }


def test_one_class_can_be_asked_for_and_truncated(command, params, tmp_path):
    assert command("--label=PNEUMONIA", "--num=2", f"--out={tmp_path}/a") == 0
    assert {row["class_name"] for row in rows(tmp_path / "a")} == {"PNEUMONIA"}
    assert command("--num=2", "--truncation=0.5", f"--out={tmp_path}/b") == 0
    expected = cxr_gan.sample(params, [0, 1], 0, truncation=0.5)[1, ..., 0]
    written = pixels(tmp_path / "b" / "PNEUMONIA_00001.png")
    np.testing.assert_array_equal(written, np.round(255 * np.asarray(expected)))


def test_every_png_says_that_it_is_synthetic_and_what_made_it(
    command, params, tmp_path
):
    assert command("--num=2", "--seed=5", f"--out={tmp_path}") == 0
    labels = {
        "NORMAL_00000.png": "NORMAL",
        "PNEUMONIA_00001.png": "PNEUMONIA",
        "grid.png": "NORMAL, PNEUMONIA",
    }
    assert {path.name for path in tmp_path.glob("*.png")} == set(labels)
    for name, label in labels.items():
        with Image.open(tmp_path / name) as image:
            text = dict(image.text)
        assert "not for clinical use" in text.pop("Description")
        assert text == {
            "Synthetic": "true",
            "Label": label,
            "Model": sampling.fingerprint(params),
            "Seed": "5",
            "Truncation": "1.0",
            "Software": f"cxr_gan {cxr_gan.__version__}",
        }


def test_json_says_which_model_seed_and_data_made_the_images(command, params, tmp_path):
    assert command("--num=5", "--seed=2", f"--out={tmp_path}") == 0
    told = json.loads((tmp_path / "generation.json").read_text(encoding="utf-8"))
    assert told["synthetic"] is True
    assert "not for clinical use" in told["note"]
    assert told["model"] == "runs/tiny"
    assert told["model_hash"] == sampling.fingerprint(params)
    assert (told["step"], told["kimg"], told["seed"]) == (7, 0.448, 2)
    assert told["dataset"] == META["dataset"]
    assert told["counts"] == {"NORMAL": 3, "PNEUMONIA": 2}
    assert told["software"]["cxr_gan"] == cxr_gan.__version__


def test_grid_shows_a_row_for_each_class(command, tmp_path):
    assert command("--num=20", f"--out={tmp_path}") == 0
    grid = pixels(tmp_path / "grid.png")
    second = pixels(tmp_path / "PNEUMONIA_00003.png").repeat(2, 0).repeat(2, 1)
    assert grid.shape[0] == 2 * 66 + 2
    margin = grid.shape[1] - (8 * 66 + 2)
    tile = grid[68 : 68 + 64, margin + 68 : margin + 68 + 64]
    np.testing.assert_array_equal(tile, second)


def test_grid_of_one_class_has_several_rows(command, tmp_path):
    assert command("--label=NORMAL", "--num=10", f"--out={tmp_path}") == 0
    assert pixels(tmp_path / "grid.png").shape[0] == 2 * 66 + 2


def test_the_same_command_writes_the_same_bytes(command, tmp_path):
    for name in ("a", "b"):
        assert command("--num=18", "--seed=1", f"--out={tmp_path / name}") == 0
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("a", "b")
    )
    assert len(first) == 21
    assert first == second


def test_a_class_name_cannot_leave_the_folder(command, params, tmp_path, monkeypatch):
    spec = {**META["spec"], "class_names": ["../../up", "b c"]}
    meta = {**META, "spec": spec}
    monkeypatch.setattr(checkpoint, "load_ema", lambda *_: (params.params, meta))
    assert command("--num=2", f"--out={tmp_path}/out") == 0
    files = [row["file"] for row in rows(tmp_path / "out")]
    assert files == ["_up_00000.png", "b_c_00001.png"]
    assert all((tmp_path / "out" / name).is_file() for name in files)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--label=pneumonia"], "did you mean 'PNEUMONIA'"),
        (["--label=COVID"], "no class is called 'COVID'; classes are NORMAL"),
    ],
)
def test_an_unknown_class_is_refused_in_one_line(
    command, tmp_path, capsys, arguments, words
):
    assert command(*arguments, f"--out={tmp_path}/out") == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(
    command, tmp_path, capsys
):
    (tmp_path / "mine.txt").write_text("mine")
    assert command(f"--out={tmp_path}") == 1
    assert f"--out={tmp_path} is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_place_of_the_folder_is_refused(command, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert command(f"--out={tmp_path}/out") == 1
    assert "is a file" in capsys.readouterr().err


def test_a_bucket_in_place_of_the_folder_is_refused(command, capsys):
    assert command("--out=gs://b/out") == 1
    assert "--out=gs://b/out is no folder of this machine" in capsys.readouterr().err


def test_a_missing_model_is_refused_in_one_line(tmp_path, capsys):
    values = flags.FlagValues()
    generate.define_flags(values)
    values(["generate", f"--model={tmp_path}/none", f"--out={tmp_path}/out"])
    assert generate.main(["generate"], values) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path}/none" in error
    assert error.count("\n") == 1


def test_a_word_without_flag_is_refused(tmp_path, capsys):
    values = flags.FlagValues()
    generate.define_flags(values)
    values(["generate", "--model=a", f"--out={tmp_path}/out"])
    assert generate.main(["generate", "PNEUMONIA"], values) == 1
    assert "'PNEUMONIA' is no flag" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag", ["--num=0", "--num=-3", "--seed=-1", "--truncation=-1", "--truncation=nan"]
)
def test_a_number_out_of_range_is_refused_by_its_flag(command, tmp_path, flag):
    with pytest.raises(flags.IllegalFlagValueError, match=flag[2:].partition("=")[0]):
        command(flag, f"--out={tmp_path}/out")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="not on Linux")
def test_a_full_disk_is_told_in_one_line_and_what_was_written_is_listed(
    command, tmp_path, capsys, monkeypatch
):
    whole = generate.draw

    def fill_up(order):
        for index, image in enumerate(whole(order)):
            if index == 3:
                (tmp_path / "PNEUMONIA_00003.unfinished").symlink_to("/dev/full")
            yield image

    monkeypatch.setattr(generate, "draw", fill_up)
    assert command("--num=8", f"--out={tmp_path}") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "PNEUMONIA_00003.png cannot be written (No space left on device)" in said
    assert "the 3 images before it are whole" in said
    listed = {row["file"] for row in rows(tmp_path)}
    assert {path.name for path in tmp_path.iterdir()} == {*listed, "labels.csv"}
    assert len(listed) == 3 and all(pixels(tmp_path / name).any() for name in listed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_exactly_what_is_listed(
    command, tmp_path, monkeypatch, capsys, number
):
    save = Image.Image.save

    def interrupted(image, path, **rest):
        if path.stem.endswith("_00004"):
            signal.raise_signal(number)
        save(image, path, **rest)

    before = signal.getsignal(number)
    monkeypatch.setattr(Image.Image, "save", interrupted)
    assert command("--num=20", f"--out={tmp_path}") == generate.STOPPED
    assert signal.getsignal(number) == before
    listed = [row["file"] for row in rows(tmp_path)]
    assert len(listed) == 5
    assert {path.name for path in tmp_path.glob("*_*.png")} == set(listed)
    told = json.loads((tmp_path / "generation.json").read_text(encoding="utf-8"))
    assert (told["num"], told["written"]) == (20, 5)
    assert "5 of 20" in capsys.readouterr().out


def test_a_misspelt_flag_names_the_right_one_without_a_traceback():
    command = [sys.executable, "-m", "cxr_gan.generate", "--modle=runs/a", "--out=b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Did you mean: model" in done.stderr
    assert "Traceback" not in done.stderr
