import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.encoder import decorrelated, kinds
from cxr_gan.data import ImageSet
from cxr_gan.data.patients import patient_keys
from cxr_gan.data.phantom import renderer
from cxr_gan.data.splits import keys_in_half_a
from cxr_gan.evaluation.metrics import cxr_encoder
from cxr_gan.storage import weights_file


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return renderer.render_many(0, range(40), 64)[0]


@pytest.fixture(scope="module")
def features(images) -> np.ndarray:
    return cxr_encoder.features(images)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the shipped weights and model card, to be damaged."""
    for suffix in ("npz", "json"):
        name = f"{cxr_encoder.NAME}.{suffix}"
        shutil.copy(str(cxr_encoder.FOLDER / name), tmp_path / name)
    return tmp_path


def test_pixel_unshuffle_turns_squares_of_pixels_into_channels():
    x = np.arange(2 * 8 * 12 * 3).reshape(2, 8, 12, 3)
    blocks = np.asarray(cxr_encoder.pixel_unshuffle(x, 4))
    assert blocks.shape == (2, 2, 3, 48)
    np.testing.assert_array_equal(blocks[:, 1, 2], x[:, 4:8, 8:12].reshape(2, 48))


def test_each_image_has_64_features_that_do_not_depend_on_other_images(
    images, features
):
    assert features.shape == (40, cxr_encoder.DIMENSION)
    assert features.dtype == np.float32
    single = cxr_encoder.features(images[3:4])
    np.testing.assert_allclose(single, features[3:4], atol=1e-4)


def test_noise_changes_features_less_than_another_image_does(images, features):
    rng = np.random.default_rng(0)
    noisy = images + np.rint(3 * rng.standard_normal(images.shape))
    noisy = cxr_encoder.features(np.clip(noisy, 0, 255).astype(np.uint8))
    between_images = np.linalg.norm(features[:20] - features[20:], axis=1)
    by_noise = np.linalg.norm(noisy - features, axis=1)
    assert np.median(by_noise) < 0.2 * np.median(between_images)


def test_features_depend_on_exposure(images, features):
    darker = cxr_encoder.features((0.8 * images).astype(np.uint8))
    shift = np.abs((darker - features).mean(0)) / features.std(0)
    assert shift.max() > 1


@pytest.mark.parametrize("size", [32, 96])
def test_images_of_other_sizes_are_accepted(size):
    images = renderer.render_many(0, range(4), size)[0]
    at_64 = cxr_encoder.features(renderer.render_many(0, range(4), 64)[0])
    by_size = np.linalg.norm(cxr_encoder.features(images) - at_64, axis=1)
    between_images = np.linalg.norm(at_64 - at_64[::-1], axis=1)
    assert (by_size < between_images).all()


def test_all_patients_on_the_model_card_are_in_half_a():
    names = []
    for patient in cxr_encoder.card()["patients"]:
        _, kind, number = patient.split()
        pneumonia = kind in ("bacteria", "virus")
        names.append(
            f"person{number}_{kind}_1.jpeg" if pneumonia else f"{kind}-{number}-1.jpeg"
        )
    assert len(names) > 1000
    assert keys_in_half_a(patient_keys(names)).all()


def test_missing_or_damaged_weights_and_wrong_model_card_are_refused(folder):
    path = folder / f"{cxr_encoder.NAME}.npz"
    data = path.read_bytes()
    for position in (10, 100_000, len(data) - 3_000):
        flipped = bytes([data[position] ^ 1])
        path.write_bytes(data[:position] + flipped + data[position + 1 :])
        with pytest.raises(ValueError, match=r"encoder.npz: damaged: its sha256 is"):
            cxr_encoder.load(folder)
    path.write_bytes(data)
    card = {**cxr_encoder.card(folder), "sha256": "0" * 64}
    (folder / f"{cxr_encoder.NAME}.json").write_text(json.dumps(card))
    message = r"the model card has 0000.*install cxr_gan again"
    with pytest.raises(ValueError, match=message):
        cxr_encoder.load(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"cxr_encoder.npz"):
        cxr_encoder.load(folder)


def test_packed_weights_are_read_back_and_those_of_another_network_refused():
    params = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.ones(2)}
    data = weights_file.pack(params)
    read = weights_file.unpack(data, params, "w.npz")
    jax.tree.map(np.testing.assert_array_equal, read, params)
    assert weights_file.pack(params) == data
    for changes, message in (
        ({"b": jnp.ones(3)}, r"w.npz: b is \[2\]; .* expects \[3\]"),
        ({"a": {}}, r"a/kernel is .* expects absent"),
        ({"c": jnp.ones(1)}, "c is absent"),
    ):
        with pytest.raises(ValueError, match=message):
            weights_file.unpack(data, params | changes, "w.npz")


def test_decorrelation_of_features_is_invertible(images):
    blank = jnp.zeros((1, 64, 64, 1))
    params = jax.jit(cxr_encoder.Encoder().init)(jax.random.key(1), blank)["params"]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (160, 8, 8, 1)).astype(np.uint8)
    both = np.concatenate([images, noise.repeat(8, 1).repeat(8, 2)])
    transformed, undo = decorrelated(params, both)
    new = cxr_encoder.encode(transformed, both)
    covariance = np.cov(new.T)
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=0.01)
    assert (np.diff(variances) < 0.01).all()
    assert variances.max() < 1.01
    np.testing.assert_allclose(undo(new), cxr_encoder.encode(params, both), atol=0.01)


def test_encoder_benchmark_reads_subclasses_from_file_names_and_refuses_other_data():
    ids = ("IM-0001-0001.jpeg", "person1_virus_1.jpeg", "person1_bacteria_1.jpeg")
    blank = np.zeros((3, 64, 64, 1), np.uint8)
    labels = np.array([0, 1, 1], np.int32)
    kind_of_image, label_of_kind = kinds(ImageSet(blank, labels, ids))
    assert kind_of_image.tolist() == [0, 2, 1]
    assert label_of_kind.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match=r"'phantom/0/1' is not an image name"):
        kinds(ImageSet(blank, labels, (*ids[:2], "phantom/0/1")))
