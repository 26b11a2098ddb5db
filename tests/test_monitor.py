import numpy as np
import pytest

from cxr_gan import data, judges, monitor
from cxr_gan.metrics import fidelity


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def phantoms(cache):
    return data.load("phantom:480", 32, split_seed=0, cache_dir=cache)


@pytest.fixture(scope="module")
def reference(phantoms):
    """The judge asks for the mean grey alone, so that tests need not fit one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "judge_of", lambda *_: None)
        return monitor.reference_of(phantoms)


@pytest.fixture
def figures(reference, monkeypatch):
    def classify(_, images):
        bright = images.mean((1, 2, 3)) > 127
        return np.stack([~bright, bright], 1).astype(np.float32)

    monkeypatch.setattr(monitor.fidelity, "classify", classify)
    return lambda images, labels: monitor.figures(reference, images, labels)


def test_val_itself_is_as_near_as_can_be_and_as_varied(figures, phantoms):
    val = phantoms.val
    found = figures(val.images, val.labels)
    assert found["eval/repetition"] == pytest.approx(0, abs=1e-6)
    assert found["eval/kid"] < 0  # unbiased: of equal sets it is a little below 0


def test_training_images_are_nearer_than_noise_and_exchanged_labels(figures, phantoms):
    train = phantoms.train
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, train.images.shape, np.uint8)
    kid = figures(train.images, train.labels)["eval/kid"]
    assert kid < figures(noise, train.labels)["eval/kid"] / 10
    assert kid < figures(train.images, 1 - train.labels)["eval/kid"]


def test_one_image_again_and_again_is_told_by_its_repetition(figures, phantoms):
    val = phantoms.val
    first = [val.images[val.labels == label][0] for label in (0, 1)]
    again = np.stack([first[label] for label in val.labels])
    assert figures(again, val.labels)["eval/repetition"] > 0.2


def test_the_mean_of_classes_is_told_beside_each(figures, phantoms):
    labels = np.array([0, 0, 1, 1, 1, 1])
    dark, bright = np.zeros((2, 32, 32, 1)), np.full((4, 32, 32, 1), 255)
    bright[0] = 0
    images = np.concatenate([dark, bright]).astype(np.uint8)
    found = figures(images, labels)
    assert found["eval/fidelity/NORMAL"] == 1
    assert found["eval/fidelity/PNEUMONIA"] == 0.75
    assert found["eval/fidelity"] == 0.875
    of_classes = [found["eval/kid/NORMAL"], found["eval/kid/PNEUMONIA"]]
    assert found["eval/kid"] == pytest.approx(np.mean(of_classes))


def test_a_val_of_few_images_says_nothing(phantoms, caplog):
    few = data.Dataset(
        phantoms.train,
        phantoms.val.take(np.arange(len(phantoms.val)) < 30),
        phantoms.class_names,
        "",
    )
    assert monitor.reference_of(few) is None
    assert "without 20 of each the run is not evaluated" in caplog.text


def test_a_judge_is_fitted_once_for_each_training_set(phantoms, tmp_path, monkeypatch):
    fitted = []
    whole = fidelity.fit

    def fit(images, labels, num_classes, seed):
        fitted.append(len(images))
        return whole(images, labels, num_classes, seed, steps=2)

    monkeypatch.setattr(fidelity, "fit", fit)
    first = judges.judge_of(phantoms.train, 2, tmp_path)
    again = judges.judge_of(phantoms.train, 2, tmp_path)
    images = phantoms.val.images
    np.testing.assert_array_equal(
        fidelity.classify(first, images), fidelity.classify(again, images)
    )
    assert len(fitted) == 1
    assert 0.3 < fitted[0] / len(phantoms.train) < 0.7  # half B alone
    fewer = phantoms.train.take(np.arange(len(phantoms.train)) < 200)
    judges.judge_of(fewer, 2, tmp_path)
    assert len(fitted) == 2


def test_a_damaged_judge_is_fitted_anew(phantoms, tmp_path, monkeypatch, caplog):
    whole = fidelity.fit
    monkeypatch.setattr(fidelity, "fit", lambda *given: whole(*given, steps=2))
    judges.judge_of(phantoms.train, 2, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    judges.judge_of(phantoms.train, 2, tmp_path)
    assert "fitting the judge anew" in caplog.text
    assert fidelity.load(kept, 2).num_classes == 2
