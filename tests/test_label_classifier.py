import jax
import numpy as np
import pytest

from cxr_gan.evaluation.metrics import label_classifier

STEPS = 30


def make_images(n, seed, num_classes=3, size=64):
    """Images of a bright disc on a noisy gradient; its position depends on the class.

    Returns uint8 [n, size, size, 1] and labels int32 [n].
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % num_classes
    y, x = np.mgrid[:size, :size] / size
    centre = 0.25 + 0.5 * labels / (num_classes - 1) + 0.05 * rng.standard_normal(n)
    disc = (x - centre[:, None, None]) ** 2 + (y - 0.5) ** 2 < 0.02
    gradient = rng.uniform(0, 80, (n, 1, 1)) * y
    images = 60 + gradient + 60 * disc + 5 * rng.standard_normal((n, size, size))
    return np.clip(images, 0, 255).astype(np.uint8)[..., None], labels


@pytest.fixture(scope="module")
def classifier():
    return label_classifier.fit(*make_images(99, 0), 3, 0, steps=STEPS)


def accuracy(classifier, images, labels):
    return (label_classifier.predict(classifier, images).argmax(1) == labels).mean()


def test_accuracy_on_held_out_images(classifier):
    assert accuracy(classifier, *make_images(60, 1)) > 0.95


def test_probabilities_sum_to_1(classifier):
    images, _ = make_images(70, 3)
    probabilities = label_classifier.predict(classifier, images)
    assert probabilities.shape == (70, 3)
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_fit_is_deterministic_and_depends_on_the_seed():
    one, same, other = (
        label_classifier.fit(*make_images(30, 0), 3, seed, steps=3)
        for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, one, same)
    kernels = [fitted.params["head"]["kernel"] for fitted in (one, other)]
    assert not np.array_equal(*kernels)


def test_accuracy_is_robust_to_brightness_contrast_and_noise(classifier):
    images, labels = make_images(60, 3)
    noise = np.random.default_rng(0).standard_normal(images.shape)
    for changed in (images + 40.0, 0.6 * images, images + 5 * noise):
        changed = np.clip(changed, 0, 255).astype(np.uint8)
        assert accuracy(classifier, changed, labels) > 0.95


def test_images_of_another_size_are_resized(classifier):
    for size in (32, 128):
        assert accuracy(classifier, *make_images(40, 4, size=size)) > 0.9


def test_balanced_batches_have_equally_many_images_of_each_class():
    labels = np.array([0] * 90 + [1] * 8 + [2] * 2, np.int32)
    groups = [np.flatnonzero(labels == label) for label in range(3)]
    batches = label_classifier._batches(groups, 10, 50, 0)
    assert all(np.bincount(labels[rows]).tolist() == [10] * 3 for rows in batches)
    count = np.bincount(batches.ravel(), minlength=100)
    assert (count[:90] >= 5).all()
    assert (count[98:] == 250).all()


def test_natural_batches_contain_all_images_equally_often():
    batches = label_classifier._batches([np.arange(96)], 32, 30, 0)
    assert batches.shape == (30, 32)
    assert set(np.bincount(batches.ravel()).tolist()) == {10}
    assert set(np.bincount(batches[:3].ravel()).tolist()) == {1}


def test_class_weights_favour_a_rare_class():
    images, labels = make_images(60, 0, 2, 32)
    rows = np.flatnonzero((labels == 1) | (np.cumsum(labels == 0) <= 2))

    def probability_of_rare_class(*class_weights):
        options = {"balanced": False, "class_weights": np.array(class_weights)}
        train = images[rows], labels[rows]
        fitted = label_classifier.fit(*train, 2, 0, steps=12, **options)
        return label_classifier.predict(fitted, images[labels == 0])[:, 0].mean()

    assert probability_of_rare_class(15, 0.5) > probability_of_rare_class(1, 1) + 0.1


def test_load_returns_the_saved_classifier_bit_for_bit(classifier, tmp_path):
    path = tmp_path / "cache" / "classifier.npz"
    label_classifier.save(classifier, path)
    loaded = label_classifier.load(path, 3)
    jax.tree.map(np.testing.assert_array_equal, loaded, classifier)
    assert [p.name for p in path.parent.iterdir()] == ["classifier.npz"]


def test_missing_damaged_and_other_files_are_refused(classifier, tmp_path):
    path = tmp_path / "classifier.npz"
    with pytest.raises(FileNotFoundError):
        label_classifier.load(path, 3)
    label_classifier.save(classifier, path)
    message = r"classifier.npz: head/bias is \[3\]; .* \[4\]"
    with pytest.raises(ValueError, match=message):
        label_classifier.load(path, 4)
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    for damaged in (data[:-100], flipped, b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"classifier.npz: damaged"):
            label_classifier.load(path, 3)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, 1, 0, 1], 1, "num_classes=1; a label classifier needs 2 or more classes"),
        ([0, 1, 0], 2, r"labels are int32 \[3\] for 4 images; must be int32 \[4\]"),
        ([0, 1, 0, 2], 2, "labels are from 0 to 2; .* from 0 to 1"),
        ([0, -1, 0, 1], 2, "labels are from -1 to 1"),
        ([0, 2, 0, 2], 3, "there is no image of class 1"),
        (np.array([0, 1, 0, 1]), 2, r"labels are int64 \[4\]"),
    ],
)
def test_invalid_labels_are_refused(labels, num_classes, message):
    labels = np.array(labels, np.int32) if isinstance(labels, list) else labels
    with pytest.raises(ValueError, match=message):
        label_classifier.fit(make_images(4, 0)[0], labels, num_classes, 0)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, np.nan]])
def test_invalid_class_weights_are_refused(weights):
    images, labels = make_images(4, 0, 2)
    message = r"class_weights=.*; give 2 finite numbers above 0"
    with pytest.raises(ValueError, match=message):
        label_classifier.fit(images, labels, 2, 0, class_weights=np.array(weights))
