import numpy as np
import pytest

from cxr_gan import data

tfds = pytest.importorskip("tensorflow_datasets")


class TinyCxr(tfds.core.GeneratorBasedBuilder):
    """Two classes, 60 images each in train and validation, made up on the spot."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(names=["normal", "pneumonia"]),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples() for name in ("train", "validation")}

    def _generate_examples(self):
        for i in range(120):
            yield i, {"image": np.full((8, 8, 1), i, np.uint8), "label": i % 2}


class TinyUnlabelled(tfds.core.GeneratorBasedBuilder):
    """An image and nothing else."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(8, 8, 1))}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"image": np.zeros((8, 8, 1), np.uint8)}


@pytest.fixture
def load(tmp_path, monkeypatch):
    builder = tfds.builder

    def in_temporary_directory(name):
        return builder(name, data_dir=tmp_path / "tfds", try_gcs=False)

    monkeypatch.setattr(tfds, "builder", in_temporary_directory)

    def load(spec):
        return data.load(spec, 8, split_seed=0, cache_dir=tmp_path / "cache")

    return load


def test_a_set_of_tensorflow_datasets_is_prepared_read_and_cached(load, monkeypatch):
    found = load("tfds:tiny_cxr")
    assert found.class_names == ("normal", "pneumonia")
    assert found.train.counts(2).tolist() == [60, 60]
    assert found.val.counts(2).tolist() == [60, 60]
    np.testing.assert_array_equal(
        found.train.images[:, 0, 0, 0] % 2, found.train.labels
    )
    assert sorted(found.val.images[:, 3, 3, 0]) == list(range(120))
    monkeypatch.setattr(TinyCxr, "download_and_prepare", None)
    assert load("tfds:tiny_cxr").identity == found.identity


def test_an_unknown_name_is_refused(load):
    with pytest.raises(ValueError, match=r"tfds:tiny_cxy: .* no set of that name"):
        load("tfds:tiny_cxy")


def test_a_missing_name_is_refused(load):
    with pytest.raises(ValueError, match="needs a name, such as tfds:pneumonia_mnist"):
        load("tfds:")


def test_a_set_without_named_classes_is_refused(load):
    with pytest.raises(ValueError, match="has the features image; must have an image"):
        load("tfds:tiny_unlabelled")
