import jax
import numpy as np
import pytest

from cxr_gan.metrics import fidelity

STEPS = 30


def made(n, seed, num_classes=3, size=64):
    """Images with a bright disc, whose place tells the class, on a noisy slope."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % num_classes
    y, x = np.mgrid[:size, :size] / size
    middle = 0.25 + 0.5 * labels / (num_classes - 1) + 0.05 * rng.standard_normal(n)
    disc = (x - middle[:, None, None]) ** 2 + (y - 0.5) ** 2 < 0.02
    slope = rng.uniform(0, 80, (n, 1, 1)) * y
    images = 60 + slope + 60 * disc + 5 * rng.standard_normal((n, size, size))
    return np.clip(images, 0, 255).astype(np.uint8)[..., None], labels


@pytest.fixture(scope="module")
def judge():
    return fidelity.fit(*made(99, 0), 3, 0, steps=STEPS)


def agreement(judge, images, labels):
    return (fidelity.classify(judge, images).argmax(1) == labels).mean()


def test_a_judge_knows_images_it_has_not_seen(judge):
    assert agreement(judge, *made(60, 1)) > 0.95


def test_probabilities_of_each_image_sum_to_one(judge):
    images, _ = made(70, 3)
    shares = fidelity.classify(judge, images)
    assert shares.shape == (70, 3)
    assert shares.dtype == np.float32
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)


def test_the_same_arguments_make_the_same_judge_and_another_seed_another():
    one, same, other = (
        fidelity.fit(*made(30, 0), 3, seed, steps=3) for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, one, same)
    kernel, another = (judge.params["head"]["kernel"] for judge in (one, other))
    assert not np.array_equal(kernel, another)


def test_brightness_contrast_and_grain_do_not_change_the_verdict(judge):
    images, labels = made(60, 3)
    noise = np.random.default_rng(0).standard_normal(images.shape)
    for changed in (images + 40.0, 0.6 * images, images + 5 * noise):
        changed = np.clip(changed, 0, 255).astype(np.uint8)
        assert agreement(judge, changed, labels) > 0.95


def test_images_of_another_size_are_resized(judge):
    for size in (32, 128):
        assert agreement(judge, *made(40, 4, size=size)) > 0.9


def test_batches_hold_equally_many_of_each_class_however_rare():
    labels = np.array([0] * 90 + [1] * 8 + [2] * 2, np.int32)
    batches = fidelity._batches(labels, 3, 0, 50)
    for batch in batches:
        assert np.bincount(labels[batch]).tolist() == [10, 10, 10]
    seen = np.bincount(batches.ravel(), minlength=100)
    assert (seen[:90] >= 5).all()
    assert (seen[98:] == 250).all()


def test_batches_as_they_come_show_every_image_equally_often():
    labels = np.array([0] * 90 + [1] * 6, np.int32)
    batches = fidelity._natural_batches(labels, 2, 0, 30)
    assert batches.shape == (30, 32)
    assert set(np.bincount(batches.ravel()).tolist()) == {10}
    assert set(np.bincount(batches[:3].ravel()).tolist()) == {1}


def test_a_rare_class_is_found_by_weights_as_by_balance_and_equal_ones_change_nothing():
    images, labels = made(60, 0, 2, 32)
    rows = np.flatnonzero((labels == 1) | (np.cumsum(labels == 0) <= 2))

    def chances(**other):
        judge = fidelity.fit(images[rows], labels[rows], 2, 0, steps=12, **other)
        return fidelity.classify(judge, images[labels == 0])[:, 0]

    plain = chances(balanced=False)
    equal = chances(balanced=False, class_weights=np.ones(2))
    weighted = chances(balanced=False, class_weights=np.array([15.0, 0.5]))
    np.testing.assert_allclose(plain, equal, atol=1e-4)
    assert weighted.mean() > plain.mean() + 0.1


def test_a_saved_judge_comes_back_as_it_was(judge, tmp_path):
    path = tmp_path / "cache" / "judge.npz"
    fidelity.save(judge, path)
    loaded = fidelity.load(path, 3)
    jax.tree.map(np.testing.assert_array_equal, loaded, judge)
    assert [p.name for p in path.parent.iterdir()] == ["judge.npz"]


def test_a_spoilt_file_is_refused(judge, tmp_path):
    path = tmp_path / "judge.npz"
    with pytest.raises(FileNotFoundError):
        fidelity.load(path, 3)
    fidelity.save(judge, path)
    whole = path.read_bytes()
    with pytest.raises(ValueError, match=r"judge.npz: head/bias is \[3\]; .* \[4\]"):
        fidelity.load(path, 4)
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"judge.npz: damaged"):
        fidelity.load(path, 3)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"judge.npz: damaged"):
        fidelity.load(path, 3)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"judge.npz: damaged"):
        fidelity.load(path, 3)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, 1, 0, 1], 1, "num_classes=1; a judge needs 2 or more"),
        ([0, 1, 0], 2, r"labels are int32 \[3\] for 4 images; must be int32 \[4\]"),
        ([0, 1, 0, 2], 2, "labels are from 0 to 2; .* from 0 to 1"),
        ([0, -1, 0, 1], 2, "labels are from -1 to 1"),
        ([0, 2, 0, 2], 3, "there is no image of class 1"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(labels, num_classes, message):
    images = made(4, 0)[0]
    with pytest.raises(ValueError, match=message):
        fidelity.fit(images, np.array(labels, np.int32), num_classes, 0)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, np.nan]])
def test_weights_that_are_none_are_refused(weights):
    images, labels = made(4, 0, 2)
    with pytest.raises(ValueError, match=r"class_weights=.*; give 2 numbers above 0"):
        fidelity.fit(images, labels, 2, 0, class_weights=np.array(weights))


def test_what_is_no_image_is_refused(judge):
    images, labels = made(4, 0)
    with pytest.raises(ValueError, match=r"labels are int64 \[4\]"):
        fidelity.fit(images, labels.astype(np.int64), 2, 0)
    with pytest.raises(TypeError, match="float32; use uint8"):
        fidelity.fit(images.astype(np.float32), labels, 2, 0)
    with pytest.raises(ValueError, match="there are no images"):
        fidelity.classify(judge, images[:0])
