import csv
import subprocess

import evaluation_data
import numpy as np
import published
import pytest
from absl import flags
from PIL import Image

from cxr_gan import data, reader_study


@pytest.fixture(autouse=True)
def tiny(tmp_path_factory, monkeypatch):
    """Every run is the tiny generator; phantoms are cached in one folder."""
    cache = tmp_path_factory.getbasetemp() / "panel_cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    published.patch(monkeypatch)


def command(out, *arguments):
    values = flags.FlagValues()
    reader_study.define_flags(values)
    argv = [
        "reader_study",
        "--model=runs/tiny",
        f"--dataset={evaluation_data.SPEC}",
        f"--out={out}",
    ]
    values([*argv, *arguments])
    return reader_study.main(["reader_study"], values)


def rows(folder, name="panel"):
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_panel_shows_the_images_of_the_key_half_of_them_real(tmp_path, capsys):
    assert command(tmp_path / "panel.png") == 0
    assert "not to be published" in capsys.readouterr().out
    table = rows(tmp_path)
    assert [int(row["number"]) for row in table] == list(range(1, 33))
    entries = [(row["real"], row["class_name"]) for row in table]
    for real in ("yes", "no"):
        for name in ("NORMAL", "PNEUMONIA"):
            assert entries.count((real, name)) == 8
    order = [row["real"] for row in table]
    assert order != sorted(order) and order != sorted(order, reverse=True)
    with Image.open(tmp_path / "panel.png") as image:
        assert "real patients" in image.text["Description"]
        panel = np.asarray(image)
    margin = panel.shape[1] - (8 * 66 + 2)
    train = data.load(evaluation_data.SPEC, 32, split_seed=0).train
    for row in table:
        if row["real"] == "yes":
            line, column = divmod(int(row["number"]) - 1, 8)
            top, left = 66 * line + 2, margin + 66 * column + 2
            tile = panel[top : top + 64 : 2, left : left + 64 : 2]
            index = int(row["image"])
            np.testing.assert_array_equal(tile, train.images[index, ..., 0])


def test_panel_is_determined_by_the_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert command(tmp_path / f"{name}.png", f"--seed={seed}") == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert rows(tmp_path, "a") == rows(tmp_path, "b") != rows(tmp_path, "c")


@pytest.mark.parametrize(
    ("ignored", "code"), [("", 1), ("*.png\n", 1), ("*.png\n*.csv\n", 0)], ids=str
)
def test_both_files_must_be_ignored_in_a_git_repository(
    tmp_path, capsys, ignored, code
):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text(ignored)
    assert command(tmp_path / "new" / "panel.png") == code
    assert (tmp_path / "new").exists() == (code == 0)
    if code:
        assert "to its .gitignore, or write elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "out", "words"),
    [
        ("panel.png", "panel.png", "panel.png exists already"),
        ("panel.csv", "panel.png", "panel.csv exists already"),
        ("other", "panel.jpg", "ends in .png"),
    ],
)
def test_existing_files_and_other_suffixes_are_refused(
    tmp_path, capsys, name, out, words
):
    (tmp_path / name).write_text("mine")
    assert command(tmp_path / out) == 1
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
