import json
import subprocess
import sys

import numpy as np
import published
import pytest
from absl import flags

import cxr_gan
from cxr_gan import checkpoint, generate, sampling, shelf

MOST_MB = 6  # of a shipped model


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with tiny.npz and tiny.json."""
    folder = tmp_path_factory.mktemp("shelf")
    published.write_report(folder / "report")
    with pytest.MonkeyPatch.context() as patch:
        published.patch(patch)
        assert published.command(folder) == 0
    return folder


@pytest.fixture
def folder(kept, tmp_path, monkeypatch):
    """A copy, which is the package's shelf; the current folder is an empty one."""
    place = tmp_path / "weights"
    place.mkdir()
    for name in ("tiny.npz", "tiny.json"):
        (place / name).write_bytes((kept / name).read_bytes())
    monkeypatch.setattr(shelf, "FOLDER", place)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return place


def test_a_shipped_model_is_loaded_by_its_name_and_any_by_its_path(folder):
    assert shelf.shipped() == ["tiny"]
    by_name, by_path = cxr_gan.load("tiny"), cxr_gan.load(folder / "tiny.npz")
    assert sampling.fingerprint(by_name) == sampling.fingerprint(by_path)
    images = cxr_gan.sample(by_name, ["NORMAL", "PNEUMONIA"], 0)
    assert images.shape == (2, 32, 32, 1)


def test_loading_one_takes_under_three_seconds_and_no_orbax(kept):
    """Of the processor's time, so that other processes do not count."""
    code = (
        "import sys, time, cxr_gan; "
        f"cxr_gan.load({str(kept / 'tiny.npz')!r}); "
        "assert not {'tensorflow', 'orbax', 'optax'} & {*sys.modules}; "
        "print(time.process_time())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 3


def test_a_folder_of_its_name_is_a_run_and_comes_first(folder, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(checkpoint, "load_ema", lambda *of: asked.append(of) or 1 / 0)
    (tmp_path / "here" / "tiny").mkdir()
    for model in ("tiny", "tiny@best"):
        with pytest.raises(ZeroDivisionError):
            cxr_gan.load(model)
    assert asked == [("tiny", "latest"), ("tiny", "best")]


@pytest.mark.parametrize("model", ["tiny@best", "tiny@12500", "{folder}/tiny.npz@best"])
def test_a_published_model_has_no_checkpoints(folder, model):
    with pytest.raises(ValueError, match=r"tiny.* has but one state; leave off @"):
        cxr_gan.load(model.format(folder=folder))


def test_an_unknown_name_is_answered_with_those_there_are(folder):
    with pytest.raises(FileNotFoundError, match=r"'tyni' is no folder .*: tiny\);"):
        cxr_gan.load("tyni")
    (folder / "tiny.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"'tiny' is no folder .*: none\);"):
        cxr_gan.load("tiny@best")


@pytest.mark.parametrize("name", ["tiny.npz", "tiny.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}: there is no such file"):
        cxr_gan.load(folder / "tiny.npz")


@pytest.mark.parametrize("place", [0, 100, 1000, -1])
def test_a_damaged_npz_is_refused(folder, place):
    path = folder / "tiny.npz"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"tiny.npz: damaged, or not the file its"):
        cxr_gan.load("tiny")


def test_an_npz_cut_short_is_refused(folder):
    path = folder / "tiny.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"tiny.npz: damaged"):
        cxr_gan.load("tiny")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"kimg": 0.448', '"kimg": 200.0'),
        lambda text: text.replace('"resolution": 32', '"resolution": 64'),
        lambda text: text.replace("CC0", "none"),
        lambda text: text[:-10],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: "",
    ],
    ids=["kimg", "spec", "licence", "cut", "list", "empty", "nothing"],
)
def test_a_damaged_or_changed_card_is_refused(folder, damage):
    path = folder / "tiny.json"
    before = path.read_text(encoding="utf-8")
    path.write_text(damage(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    with pytest.raises(ValueError, match=r"tiny.json: damaged"):
        cxr_gan.load("tiny")


@pytest.mark.parametrize(
    "changes", [{"depth": 3}, {"name": "transformer"}], ids=["field", "name"]
)
def test_a_generator_of_another_version_is_refused(folder, changes):
    card = shelf.read_card(folder / "tiny.json")
    card["spec"] |= changes
    shelf.write(folder / "other.npz", (folder / "tiny.npz").read_bytes(), card)
    with pytest.raises(ValueError, match="use the version it was trained with"):
        cxr_gan.load("other")


def test_writing_refuses_what_is_there(folder):
    with pytest.raises(FileExistsError, match=r"tiny.npz is there already"):
        shelf.write(folder / "tiny.npz", b"", {})


def test_generate_draws_from_a_shipped_model(folder, tmp_path):
    values = flags.FlagValues()
    generate.define_flags(values)
    values(["generate", "--model=tiny", "--num=2", f"--out={tmp_path}/out"])
    assert generate.main(["generate"], values) == 0
    told = json.loads((tmp_path / "out" / "generation.json").read_text())
    assert told["model"] == "tiny"
    card = shelf.read_card(folder / "tiny.json")
    assert told["model_hash"] == card["model_hash"]
    assert told["dataset"] == card["dataset"]


def test_generate_refuses_the_best_of_a_shipped_model(folder, tmp_path, capsys):
    values = flags.FlagValues()
    generate.define_flags(values)
    values(["generate", "--model=tiny@best", f"--out={tmp_path}/out"])
    assert generate.main(["generate"], values) == 1
    assert "leave off @best" in capsys.readouterr().err


def check_shipped(name):
    """What holds of every model that comes with the package."""
    path = shelf.FOLDER / f"{name}.npz"
    assert path.stat().st_size <= MOST_MB * 1e6
    params, card = sampling.load_with_meta(name)
    labels = np.arange(4) % len(params.class_names)
    images = np.asarray(cxr_gan.sample(params, labels, 0))
    assert images.min() >= 0 and images.max() <= 1
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4
    assert card["name"] == name
    assert card["model_hash"] == sampling.fingerprint(params)
    evaluated = card["report"]["images"]["model_hash"]
    assert evaluated in (card["model_hash"], card["trained_hash"])
    assert card["report"]["dataset"]["identity"] == card["dataset"]["identity"]
    assert card.keys() == {
        *("what", "name", "people", "licence", "dtype", "model_hash", "trained_hash"),
        *("step", "kimg", "config", "dataset", "spec", "figures", "score"),
        *("report", "software", "sha256"),
    }


def test_what_is_asked_of_every_shipped_model_holds_of_the_tiny_one(folder):
    check_shipped("tiny")


@pytest.mark.parametrize("name", shelf.shipped())
def test_every_shipped_model_loads_and_draws_and_its_card_is_whole(name):
    check_shipped(name)
