import typing

import numpy as np
import pytest

from cxr_gan import data

tfds = pytest.importorskip("tensorflow_datasets")


class TinyCxr(tfds.core.GeneratorBasedBuilder):
    """Two classes with 60 generated images each, in both train and validation."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: typing.ClassVar = {
        "image": tfds.features.Image(shape=(8, 8, 1)),
        "label": tfds.features.ClassLabel(names=["normal", "pneumonia"]),
    }

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples() for name in ("train", "validation")}

    def _generate_examples(self):
        for i in range(120):
            image = np.full((8, 8, 1), i, np.uint8)
            image[4:] = 200
            yield i, {"image": image, "label": i % 2}


class TinyUnlabelled(TinyCxr):
    """Images without labels."""

    FEATURES: typing.ClassVar = {"image": tfds.features.Image(shape=(8, 8, 1))}


@pytest.fixture
def load(tmp_path, monkeypatch):
    builder = tfds.builder

    def in_temporary_folder(name):
        return builder(name, data_dir=tmp_path / "tfds", try_gcs=False)

    monkeypatch.setattr(tfds, "builder", in_temporary_folder)

    def load(spec):
        return data.load(spec, 8, split_seed=0, cache_dir=tmp_path / "cache")

    return load


def test_tensorflow_dataset_is_prepared_read_and_cached(load, monkeypatch):
    dataset = load("tfds:tiny_cxr")
    assert dataset.class_names == ("normal", "pneumonia")
    assert dataset.train.counts(2).tolist() == [60, 60]
    assert dataset.val.counts(2).tolist() == [60, 60]
    np.testing.assert_array_equal(
        dataset.train.images[:, 0, 0, 0] % 2, dataset.train.labels
    )
    assert sorted(dataset.val.images[:, 3, 3, 0]) == list(range(120))
    monkeypatch.setattr(TinyCxr, "download_and_prepare", None)
    assert load("tfds:tiny_cxr").identity == dataset.identity


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:tiny_cxy", r"tfds:tiny_cxy: .* no dataset of that name"),
        ("tfds:", "needs a name, such as tfds:pneumonia_mnist"),
        ("tfds:tiny_unlabelled", "has the features image; must have an image"),
    ],
)
def test_invalid_dataset_is_rejected(load, spec, message):
    with pytest.raises(ValueError, match=message):
        load(spec)
