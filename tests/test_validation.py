import dataclasses

import chex
import numpy as np
import pytest

from cxr_gan import data
from cxr_gan.data.patients import keys_of
from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation import label_classifier_cache
from cxr_gan.evaluation.metrics import label_classifier
from cxr_gan.training import validation


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def phantoms(cache):
    return data.load("phantom:480", 32, split_seed=0, cache_dir=cache)


@pytest.fixture(scope="module")
def reference(phantoms):
    """A reference without a label classifier, so that none has to be fitted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "load_or_fit", lambda *_: None)
        return validation.make_reference(phantoms)


@pytest.fixture
def validate(reference, monkeypatch):
    """validate(images, labels): metrics; images brighter than 127 count as class 1."""

    def predict(_, images):
        bright = images.mean((1, 2, 3)) > 127
        return np.stack([~bright, bright], 1).astype(np.float32)

    monkeypatch.setattr(validation.label_classifier, "predict", predict)
    return lambda images, labels: validation.validation_metrics(
        reference, images, labels
    )


def test_val_compared_with_itself_has_no_distance_and_no_ms_ssim_excess(
    validate, phantoms
):
    metrics = validate(phantoms.val.images, phantoms.val.labels)
    assert metrics["eval/ms_ssim_excess"] == pytest.approx(0, abs=1e-6)
    assert metrics["eval/kid"] < 0  # unbiased: slightly below 0 for equal sets


def test_training_images_have_lower_kid_than_noise_or_swapped_labels(
    validate, phantoms
):
    train = phantoms.train
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, train.images.shape, np.uint8)
    kid = validate(train.images, train.labels)["eval/kid"]
    assert kid < validate(noise, train.labels)["eval/kid"] / 10
    assert kid < validate(train.images, 1 - train.labels)["eval/kid"]


def test_one_repeated_image_has_a_high_ms_ssim_excess(validate, phantoms):
    val = phantoms.val
    first = [val.images[val.labels == label][0] for label in (0, 1)]
    repeated = np.stack([first[label] for label in val.labels])
    assert validate(repeated, val.labels)["eval/ms_ssim_excess"] > 0.2


def other_patients(count):
    """Phantoms that are neither in train nor in val; their labels."""
    found = [renderer.render(seed=9, index=i, resolution=32) for i in range(count)]
    return np.stack([one.image for one in found]), np.arange(count) % 2


def test_share_near_training_tells_copies_from_images_of_other_patients(
    validate, phantoms
):
    limit = validation.near_training_limit(phantoms)
    assert validate(*other_patients(60))["eval/near_training"] <= limit
    train = phantoms.train
    copies = np.clip(train.images[:40].astype(int) + 1, 0, 255).astype(np.uint8)
    assert limit < validate(copies, train.labels[:40])["eval/near_training"] == 1


def test_val_that_shares_patients_and_images_with_train_still_tells_copies(phantoms):
    train, val = phantoms.train, phantoms.val
    images, patients = val.images.copy(), list(keys_of(val))
    images[:2] = train.images[:2]  # copies under other keys
    images[2:5] = np.clip(train.images[2:5].astype(int) + 1, 0, 255)
    patients[2:5] = keys_of(train)[2:5]
    shared = dataclasses.replace(val, images=images, patients=tuple(patients))
    known = dataclasses.replace(train, patients=tuple(keys_of(train)))
    dataset = dataclasses.replace(phantoms, train=known, val=shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "load_or_fit", lambda *_: None)
        one, other = map(validation.make_reference, (phantoms, dataset))
    assert other.near == pytest.approx(one.near, rel=0.3)
    limits = map(validation.near_training_limit, (phantoms, dataset))
    assert next(limits) < next(limits)


def test_val_of_training_patients_only_is_warned_of_and_does_not_end_the_run(
    phantoms, caplog
):
    train, val = phantoms.train, phantoms.val
    dataset = dataclasses.replace(
        phantoms,
        train=dataclasses.replace(train, patients=("one",) * len(train)),
        val=dataclasses.replace(val, patients=("one",) * len(val)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "load_or_fit", lambda *_: None)
        assert validation.make_reference(dataset).near == 0
    assert "all patients of val are in train too" in caplog.text
    assert 0 < validation.near_training_limit(dataset) <= 1


def test_only_images_that_the_run_uses_count_as_its_training_images(phantoms):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "load_or_fit", lambda *_: None)
        reference = validation.make_reference(phantoms, (5, 7))
    assert len(reference.train_features) == 12


def test_any_checkpoint_that_copies_has_a_worse_score_than_one_that_does_not():
    best = {"eval/kid": 0.1, "eval/near_training": 0.5}
    worse = {"eval/kid": 9.0, "eval/near_training": 0.02}
    assert validation.score(worse, limit=0.03) < validation.score(best, limit=0.03)
    assert validation.score(best, limit=0.5) == 0.1
    assert validation.score({}, limit=0.5) is None


def test_limit_of_near_training_images_is_wider_for_few_images_of_val(phantoms):
    few = dataclasses.replace(phantoms, val=phantoms.val.take(phantoms.val.labels == 0))
    few_limit, limit = map(validation.near_training_limit, (few, phantoms))
    assert 0.01 < limit < few_limit < 0.3


def test_metrics_are_given_by_class_and_as_mean_over_classes(validate):
    labels = np.array([0, 0, 1, 1, 1, 1])
    dark, bright = np.zeros((2, 32, 32, 1)), np.full((4, 32, 32, 1), 255)
    bright[0] = 0
    images = np.concatenate([dark, bright]).astype(np.uint8)
    metrics = validate(images, labels)
    assert metrics["eval/label_accuracy/NORMAL"] == 1
    assert metrics["eval/label_accuracy/PNEUMONIA"] == 0.75
    assert metrics["eval/label_accuracy"] == 0.875
    by_class = [metrics["eval/kid/NORMAL"], metrics["eval/kid/PNEUMONIA"]]
    assert metrics["eval/kid"] == pytest.approx(np.mean(by_class))


def test_run_with_too_few_val_images_is_not_validated(phantoms, caplog):
    few = data.Dataset(
        phantoms.train,
        phantoms.val.take(np.arange(len(phantoms.val)) < 30),
        phantoms.class_names,
        "",
    )
    assert validation.make_reference(few) is None
    assert "with fewer than 20 of each class the run is not validated" in caplog.text


@pytest.fixture(scope="module")
def classifier(phantoms):
    """A label classifier after two steps."""
    train = phantoms.train
    return label_classifier.fit(train.images[:64], train.labels[:64], 2, 0, steps=2)


@pytest.fixture
def fitted_sizes(classifier, monkeypatch):
    """Replaces the fit by `classifier`; the numbers of images it was called with."""
    sizes = []

    def fit(images, labels, num_classes, seed):
        sizes.append(len(images))
        return classifier

    monkeypatch.setattr(label_classifier, "fit", fit)
    return sizes


def test_label_classifier_is_fitted_once_for_each_training_set(
    phantoms, classifier, fitted_sizes, tmp_path
):
    for _ in range(2):
        found = label_classifier_cache.load_or_fit(phantoms.train, 2, tmp_path)
        chex.assert_trees_all_equal(found, classifier)
    assert len(fitted_sizes) == 1
    assert 0.3 < fitted_sizes[0] / len(phantoms.train) < 0.7  # half B only
    fewer = phantoms.train.take(np.arange(len(phantoms.train)) < 200)
    label_classifier_cache.load_or_fit(fewer, 2, tmp_path)
    assert len(fitted_sizes) == 2


def test_damaged_label_classifier_is_fitted_again(
    phantoms, fitted_sizes, tmp_path, caplog
):
    label_classifier_cache.load_or_fit(phantoms.train, 2, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    for _ in range(2):  # the second one reads the file that the first one replaces
        label_classifier_cache.load_or_fit(phantoms.train, 2, tmp_path)
    assert caplog.text.count("fitting the label classifier again") == 1
    assert len(fitted_sizes) == 2
