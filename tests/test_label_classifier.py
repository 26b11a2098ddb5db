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


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize(
    "change",
    [
        lambda x, rng: x,
        lambda x, rng: x + 40.0,
        lambda x, rng: 0.6 * x,
        lambda x, rng: x + 5 * rng.standard_normal(x.shape),
    ],
    ids=["none", "brightness", "contrast", "noise"],
)
def test_held_out_images_are_classified(classifier, size, change):
    images, labels = make_images(60, 3, size=size)
    changed = np.clip(change(images, np.random.default_rng(0)), 0, 255)
    probabilities = label_classifier.predict(classifier, changed.astype(np.uint8))
    assert probabilities.shape == (60, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (probabilities.argmax(1) == labels).mean() > 0.9


def test_fit_is_deterministic_and_depends_on_the_seed():
    one, same, other = (
        label_classifier.fit(*make_images(30, 0), 3, seed, steps=3)
        for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, one, same)
    kernels = [fitted["head"]["kernel"] for fitted in (one, other)]
    assert not np.array_equal(*kernels)


def test_a_fit_continues_from_an_earlier_one(classifier):
    images, labels = make_images(60, 3)
    continued, random = (
        label_classifier.fit(images, labels, 3, 0, steps=1, start=start)
        for start in (classifier, None)
    )
    right = [
        (label_classifier.predict(params, images).argmax(1) == labels).mean()
        for params in (continued, random)
    ]
    assert right[0] > 0.9 > right[1] + 0.2


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


def test_class_without_images_is_refused():
    images, labels = make_images(4, 0, 2)
    with pytest.raises(ValueError, match="there is no image of class 2"):
        label_classifier.fit(images, labels, 3, 0)
