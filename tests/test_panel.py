import csv
import subprocess

import made
import numpy as np
import published
import pytest
from absl import flags
from PIL import Image

from cxr_gan import data, panel


@pytest.fixture(autouse=True)
def tiny(tmp_path_factory, monkeypatch):
    """Any run is the tiny generator; phantoms are kept in one place."""
    cache = tmp_path_factory.getbasetemp() / "panel_cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    published.patch(monkeypatch)


def command(out, *arguments):
    values = flags.FlagValues()
    panel.define_flags(values)
    words = ["panel", "--model=runs/tiny", f"--dataset={made.SPEC}", f"--out={out}"]
    values([*words, *arguments])
    return panel.main(["panel"], values)


def rows(folder, name="panel"):
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_key_names_every_place_half_of_them_real_in_equal_classes(tmp_path, capsys):
    assert command(tmp_path / "panel.png") == 0
    assert "not to be published" in capsys.readouterr().out
    table = rows(tmp_path)
    assert [int(row["number"]) for row in table] == list(range(1, 33))
    told = [(row["real"], row["class_name"]) for row in table]
    for real in ("yes", "no"):
        for name in ("NORMAL", "PNEUMONIA"):
            assert told.count((real, name)) == 8
    order = [row["real"] for row in table]
    assert order != sorted(order) and order != sorted(order, reverse=True)


def test_the_picture_shows_at_each_place_what_the_key_says(tmp_path):
    assert command(tmp_path / "panel.png") == 0
    with Image.open(tmp_path / "panel.png") as image:
        assert "real patients" in image.text["Description"]
        picture = np.asarray(image)
    margin = picture.shape[1] - (8 * 66 + 2)
    train = data.load(made.SPEC, 32, split_seed=0).train
    seen = 0
    for row in rows(tmp_path):
        if row["real"] == "yes":
            line, column = divmod(int(row["number"]) - 1, 8)
            top, left = 66 * line + 2, margin + 66 * column + 2
            tile = picture[top : top + 64 : 2, left : left + 64 : 2]
            index = train.ids.index(row["image"])
            np.testing.assert_array_equal(tile, train.images[index, ..., 0])
            seen += 1
    assert seen == 16


def test_the_same_seed_gives_the_same_panel_and_another_another(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert command(tmp_path / f"{name}.png", f"--seed={seed}") == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert rows(tmp_path, "a") == rows(tmp_path, "b") != rows(tmp_path, "c")


@pytest.mark.parametrize(
    ("ignored", "code"), [("", 1), ("*.png\n", 1), ("*.png\n*.csv\n", 0)], ids=str
)
def test_in_a_repository_both_files_must_be_ignored(tmp_path, capsys, ignored, code):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text(ignored)
    assert command(tmp_path / "new" / "panel.png") == code
    assert (tmp_path / "new").exists() == (code == 0)
    if code:
        assert "to its .gitignore, or write elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["panel.png", "panel.csv"])
def test_what_is_there_is_not_overwritten(tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    assert command(tmp_path / "panel.png") == 1
    assert f"{name} is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_another_suffix_is_refused(tmp_path, capsys):
    assert command(tmp_path / "panel.jpg") == 1
    assert "ends in .png" in capsys.readouterr().err


def test_help_warns_of_real_patients():
    values = flags.FlagValues()
    panel.define_flags(values)
    assert "real patients" in values["out"].help
    assert "REAL PATIENTS" in panel.__doc__
