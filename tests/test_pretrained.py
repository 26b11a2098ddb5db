import jax
import numpy as np
import published
import pytest
from ml_collections import ConfigDict

import cxr_gan
from cxr_gan.config import flatten, freeze
from cxr_gan.config import published as published_config
from cxr_gan.sampling import pretrained, sampler, training_images
from cxr_gan.storage import checkpoint
from cxr_gan.training import gan, initialization

MAX_MB = 6  # of the npz of a shipped model
PUBLISHED_KEYS = flatten(published_config()).keys()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with tiny.npz and tiny.json; tests must not change it."""
    folder = tmp_path_factory.mktemp("published")
    published.write_report(folder / "report")
    with pytest.MonkeyPatch.context() as patch:
        published.patch(patch)
        assert published.command(folder) == 0
    return folder


@pytest.fixture
def folder(original, tmp_path, monkeypatch):
    """A copy that holds the package's models; the current folder is an empty one."""
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("tiny.npz", "tiny.json", "tiny.state.npz"):
        (weights / name).write_bytes((original / name).read_bytes())
    monkeypatch.setattr(pretrained, "FOLDER", weights)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return weights


def test_shipped_model_is_loaded_by_name_and_any_model_by_path(folder):
    assert pretrained.bundled() == ["tiny"]
    by_name, by_path = cxr_gan.load("tiny"), cxr_gan.load(folder / "tiny.npz")
    assert sampler.fingerprint(by_name) == sampler.fingerprint(by_path)
    images = cxr_gan.sample(by_name, ["NORMAL", "PNEUMONIA"], 0)
    assert images.shape == (2, 32, 32, 1)


def test_run_folder_takes_precedence_over_shipped_model(folder, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(checkpoint, "load_item", lambda *a: calls.append(a) or 1 / 0)
    (tmp_path / "here" / "tiny").mkdir()
    for model in ("tiny", "tiny@best"):
        with pytest.raises(ZeroDivisionError):
            cxr_gan.load(model)
    assert calls == [("tiny", "ema", "latest"), ("tiny", "ema", "best")]


@pytest.mark.parametrize("model", ["tiny@best", "tiny@12500", "{folder}/tiny.npz@best"])
def test_checkpoint_of_published_model_is_refused(folder, model):
    with pytest.raises(ValueError, match=r"tiny.* has no checkpoints; leave off @"):
        cxr_gan.load(model.format(folder=folder))


def test_unknown_name_is_refused_with_list_of_shipped_models(folder):
    message = r"{} is neither a folder .*: {}\);"
    with pytest.raises(FileNotFoundError, match=message.format("'tyni'", "tiny")):
        cxr_gan.load("tyni")
    (folder / "tiny.npz").unlink()
    with pytest.raises(FileNotFoundError, match=message.format("'tiny'", "none")):
        cxr_gan.load("tiny@best")


def test_training_state_of_a_published_model_is_read_and_checked(folder):
    path = folder / "tiny.npz"
    _, card = sampler.load_with_meta(str(path))
    found = pretrained.load_state(path, card)
    rounded = jax.tree.map(lambda x: x.astype(np.float16), published.NETWORKS)
    images = training_images.to_arrays(published.TRAINING_IMAGES)
    expected = rounded | {training_images.KEY: images}
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    (rows,) = training_images.read(str(path)).values()
    np.testing.assert_array_equal(rows, published.TRAINING_IMAGES[32])
    state = pretrained.state_path(path)
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"tiny\.state\.npz: damaged, or of another"):
        pretrained.load_state(path, card)
    state.unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny\.state\.npz: there is no such"):
        pretrained.load_state(path, card)


@pytest.mark.parametrize("name", ["tiny.npz", "tiny.json"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}: there is no such file"):
        cxr_gan.load(folder / "tiny.npz")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:-100],
    ],
    ids=["first byte", "last byte", "truncated"],
)
def test_damaged_npz_is_refused(folder, damage):
    path = folder / "tiny.npz"
    path.write_bytes(damage(path.read_bytes()))
    message = r"tiny.npz: damaged, or not the file described by its"
    with pytest.raises(ValueError, match=message):
        cxr_gan.load("tiny")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"resolution": 32', '"resolution": 64'),
        lambda text: text.replace("CC0", "none"),
        lambda text: text[:-10],
        lambda text: "[]",
        lambda text: "{}",
    ],
    ids=["generator", "licence", "truncated", "list", "object"],
)
def test_damaged_or_changed_card_is_refused(folder, damage):
    path = folder / "tiny.json"
    before = path.read_text(encoding="utf-8")
    path.write_text(damage(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    with pytest.raises(ValueError, match=r"tiny.json: damaged"):
        cxr_gan.load("tiny")


@pytest.mark.parametrize("schema", [1, 3, "2", None])
def test_card_of_another_schema_is_refused(folder, schema):
    card = pretrained.load_card(folder / "tiny.json")
    published.write_card(folder / "tiny.json", card | {"schema": schema})
    message = f"tiny.json: the card has schema {schema!r}, .* reads schema 2; use the"
    with pytest.raises(ValueError, match=message):
        cxr_gan.load("tiny")


@pytest.mark.parametrize("name", ["tiny", *pretrained.bundled()])
def test_every_shipped_model_loads_and_generates_and_has_a_complete_card(request, name):
    if name == "tiny":  # in place of the shipped models
        request.getfixturevalue("folder")
    path = pretrained.FOLDER / f"{name}.npz"
    assert path.stat().st_size <= MAX_MB * 1e6
    params, card = sampler.load_with_meta(name)
    labels = np.arange(4) % len(params.class_names)
    images = np.asarray(cxr_gan.sample(params, labels, 0))
    assert images.min() >= 0 and images.max() <= 1
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4
    assert card["schema"] == 2
    assert card["name"] == name
    assert card["model_hash"] == sampler.fingerprint(params)
    evaluated = card["report"]["images"]["model_hash"]
    known = (card["model_hash"], card["trained_hash"])
    # A note may name the weights that were evaluated, where only zeros were added.
    assert evaluated in known or any(evaluated in x for x in card["report"]["notes"])
    assert card["report"]["dataset"]["identity"] == card["dataset"]["identity"]
    assert card.keys() == {
        *("what", "name", "people", "licence", "dtype", "model_hash", "trained_hash"),
        *("step", "kimg", "config", "dataset", "generator", "metrics", "score"),
        *("report", "software", "schema", "sha256", "state_sha256", "ancestors"),
    }
    assert flatten(ConfigDict(card["config"])).keys() == PUBLISHED_KEYS
    known = training_images.read(str(path))[params.config.resolution]
    counts = card["report"]["dataset"]["counts"]
    if name != "tiny":  # each distinct image of train has a digest
        assert len(known) == sum(counts["A"].values()) + sum(counts["B"].values())


@pytest.mark.parametrize("name", pretrained.bundled())
def test_training_can_start_from_every_shipped_model(name):
    ancestor = initialization.load(name)
    assert ancestor.ancestors[-1] == sampler.fingerprint(cxr_gan.load(name))
    config = published_config()
    config.init = name
    config.resolution = ancestor.config.resolution
    config.base_resolution = ancestor.config.base_resolution
    definition = gan.build_gan(freeze(config), ancestor.config.class_names)
    initialization.check(ancestor, definition, ancestor.config.class_names)


def test_fingerprint_of_shipped_model_does_not_change():
    assert sampler.fingerprint(cxr_gan.load("pediatric64")) == "616cdd7d8c0f7806"
