import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.encoder import decorrelated, kinds
from cxr_gan.data import ImageSet, phantom
from cxr_gan.data.halves import halves
from cxr_gan.metrics import encoder, stored


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return phantom.render_many(0, range(40), 64)[0]


@pytest.fixture(scope="module")
def features(images) -> np.ndarray:
    return encoder.features(images)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of what is shipped, to be spoilt."""
    for suffix in ("npz", "json"):
        name = f"{encoder.NAME}.{suffix}"
        shutil.copy(str(encoder.shipped() / name), tmp_path / name)
    return tmp_path


def test_each_image_has_64_finite_features(features):
    assert features.shape == (40, encoder.DIMENSION)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_an_image_has_the_same_features_in_any_set(images, features):
    twice = encoder.features(np.concatenate([images[30:], images]))
    np.testing.assert_allclose(twice[:10], features[30:], atol=1e-4)
    np.testing.assert_allclose(twice[10:], features, atol=1e-4)
    np.testing.assert_allclose(encoder.features(images[3:4]), features[3:4], atol=1e-4)


def test_features_tell_images_apart_but_hardly_grain_or_blur(images, features):
    rng = np.random.default_rng(0)
    grained = images + np.rint(3 * rng.standard_normal(images.shape))
    grained = encoder.features(np.clip(grained, 0, 255).astype(np.uint8))
    between = np.linalg.norm(features[:20] - features[20:], axis=1)
    moved = np.linalg.norm(grained - features, axis=1)
    assert np.median(moved) < 0.2 * np.median(between)


def test_features_tell_exposure(images, features):
    darker = encoder.features((0.8 * images).astype(np.uint8))
    shift = np.abs((darker - features).mean(0)) / features.std(0)
    assert shift.max() > 1


def test_larger_images_are_read_as_the_means_of_their_squares(images, features):
    large = images.repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(encoder.features(large), features, atol=1e-4)


@pytest.mark.parametrize("size", [32, 96])
def test_other_sizes_are_read_as_well(size):
    images = phantom.render_many(0, range(4), size)[0]
    same = encoder.features(phantom.render_many(0, range(4), 64)[0])
    apart = np.linalg.norm(same - same[::-1], axis=1)
    assert (np.linalg.norm(encoder.features(images) - same, axis=1) < apart).all()


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((2, 64, 64, 1), np.float32), TypeError, "float32; use uint8"),
        (np.zeros((2, 64, 64), np.uint8), ValueError, r"\[2, 64, 64\]; must be \[n, s"),
        (np.zeros((2, 64, 32, 1), np.uint8), ValueError, r"must be \[n, s, s, 1\]"),
        (np.zeros((0, 64, 64, 1), np.uint8), ValueError, "there are no images"),
    ],
)
def test_what_is_no_set_of_images_is_refused(images, error, message):
    with pytest.raises(error, match=message):
        encoder.features(images)


def test_the_network_and_its_file_are_small():
    params = encoder.load()
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) < 500_000
    assert len((encoder.shipped() / f"{encoder.NAME}.npz").read_bytes()) < 1_000_000


def test_the_card_says_from_what_and_how_good():
    card = encoder.card()
    assert card["data"]["licence"] == "CC BY 4.0"
    assert card["data"]["doi"] == "10.17632/rscbjbr9sj"
    assert "benchmarks.encoder" in card["made_by"]
    for part in ("val", "half B"):
        assert card["held_out"][part]["accuracy"] >= 0.93
        assert card["held_out"][part]["auroc"] >= 0.97


def test_every_patient_on_the_card_is_of_half_a():
    names = []
    for patient in encoder.card()["patients"]:
        _, kind, number = patient.split()
        pneumonia = kind in ("bacteria", "virus")
        names.append(
            f"person{number}_{kind}_1.jpeg" if pneumonia else f"{kind}-{number}-1.jpeg"
        )
    assert len(names) > 1000
    assert halves(names).all()


@pytest.mark.parametrize("at", [10, -3_000, 100_000])
def test_a_flipped_byte_of_the_weights_is_found(folder, at):
    path = folder / f"{encoder.NAME}.npz"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"cxr_encoder.npz: damaged: its sha256 is"):
        encoder.load(folder)


def test_a_cut_file_and_a_card_of_other_weights_are_found(folder):
    path = folder / f"{encoder.NAME}.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="install cxr_gan again"):
        encoder.load(folder)
    path.write_bytes(whole)
    card = {**encoder.card(folder), "sha256": "0" * 64}
    (folder / f"{encoder.NAME}.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="its card says 0000"):
        encoder.load(folder)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cxr_encoder.npz"):
        encoder.load(tmp_path)


def test_packed_weights_come_back_and_pack_to_the_same_bytes():
    params = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.ones(2)}
    data = stored.pack(params)
    jax.tree.map(np.testing.assert_array_equal, stored.unpack(data, params, ""), params)
    assert stored.pack(params) == data


def test_weights_of_another_network_are_refused():
    data = stored.pack({"a": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match=r"w.npz: a is \[2, 3\]; .* wants \[3, 2\]"):
        stored.unpack(data, {"a": jnp.ones((3, 2))}, "w.npz")
    with pytest.raises(ValueError, match=r"a is .*; this version of cxr_gan wants abs"):
        stored.unpack(data, {}, "w.npz")
    with pytest.raises(ValueError, match="b is absent"):
        stored.unpack(data, {"a": jnp.ones((2, 3)), "b": jnp.ones(1)}, "w.npz")


def test_turning_the_features_decorrelates_them_and_can_be_undone(images):
    blank = jnp.zeros((1, 64, 64, 1))
    params = jax.jit(encoder.Encoder().init)(jax.random.key(1), blank)["params"]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (160, 8, 8, 1)).astype(np.uint8)
    seen = np.concatenate([images, noise.repeat(8, 1).repeat(8, 2)])
    turned, undo = decorrelated(params, seen)
    new = encoder.encode(turned, seen)
    covariance = np.cov(new.T)
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=0.01)
    assert (np.diff(variances) < 0.01).all()
    assert variances.max() < 1.01
    np.testing.assert_allclose(undo(new), encoder.encode(params, seen), atol=0.01)


def test_the_recipe_tells_kinds_by_file_names_and_refuses_other_data():
    ids = ("IM-0001-0001.jpeg", "person1_virus_1.jpeg", "person1_bacteria_1.jpeg")
    blank = np.zeros((3, 64, 64, 1), np.uint8)
    labels = np.array([0, 1, 1], np.int32)
    of_image, of_kind = kinds(ImageSet(blank, labels, ids))
    assert of_image.tolist() == [0, 2, 1]
    assert of_kind.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match=r"'phantom/0/1' is no name of the data"):
        kinds(ImageSet(blank, labels, (*ids[:2], "phantom/0/1")))
