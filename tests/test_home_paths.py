"""Every path that a user types may begin with ~."""

import numpy as np
import pytest

import cxr_gan
from cxr_gan import data
from cxr_gan.data.listing import ManifestOptions, ReadOptions
from cxr_gan.evaluation import image_input, inputs
from cxr_gan.evaluation.metrics import onnx_encoder
from cxr_gan.runtime import cli, config_files, workdir
from cxr_gan.storage import files


def load_images_of_manifest(path):
    options = ReadOptions(ManifestOptions(images=path))
    return data.load("manifest:set.csv", 32, split_seed=0, options=options)


def open_workdir(path):
    with workdir.open_workdir(path) as folder:
        return folder


READERS = {
    "dataset": lambda path: data.load(path, 32, split_seed=0),
    "folder": lambda path: data.load(f"folder:{path}", 32, split_seed=0),
    "npz": lambda path: data.load(f"npz:{path}", 32, split_seed=0),
    "prepared": lambda path: data.load(f"prepared:{path}", 32, split_seed=0),
    "manifest.images": load_images_of_manifest,
    "model": cxr_gan.load,
    "images": image_input.read,
    "onnx": onnx_encoder.extractor,
    "config": lambda path: config_files.read(*config_files.locate(path)),
}
WRITERS = {"out": cli.new_output_folder, "workdir": open_workdir}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home directory, and another current one with a manifest."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/set.csv").write_text("file,label\na.png,x\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("name", READERS)
def test_home_directory_is_searched_and_an_unknown_one_is_an_error(name, home):
    with pytest.raises(OSError) as missing:
        READERS[name]("~/missing")
    assert "missing" in str(missing.value)
    with pytest.raises(FileNotFoundError, match="no home directory of that name"):
        READERS[name]("~nobody-of-this-name/x")


@pytest.mark.parametrize("name", WRITERS)
def test_output_below_the_home_directory_is_written_there(name, home):
    assert WRITERS[name]("~/new") == home / "new"
    with pytest.raises(FileNotFoundError, match="no home directory of that name"):
        WRITERS[name]("~nobody-of-this-name/x")


def test_images_below_the_home_directory_are_found(home):
    np.savez(home / "a.npz", images=np.full((4, 32, 32), 99, np.uint8), labels=[0] * 4)
    assert image_input.read("~/a.npz").images.shape == (4, 32, 32, 1)
    with pytest.raises(ValueError, match="are the same folder"):
        inputs.open_input(None, "~/a.npz", str(home), 2, 0)


def test_address_of_images_is_answered_as_one(home):
    with pytest.raises(ValueError, match="--images=gs://b/x is not a local folder"):
        inputs.open_input(None, "gs://b/x", "phantom", 2, 0)


def test_cache_below_the_home_directory(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    assert files.user_cache_dir() == home / "cache/cxr_gan"
