"""The limits that real classes set to what changes with the class."""

import numpy as np
import pytest
from scipy import stats

from cxr_gan.data import Dataset, ImageSet
from cxr_gan.evaluation import pairs
from cxr_gan.evaluation.image_sets import split_reference


def image_set(pixels, labels):
    ids = tuple(f"person{i}_{i}.png" for i in range(len(labels)))
    return ImageSet(pixels, np.asarray(labels, np.int32), ids)


@pytest.mark.parametrize("shift", [0, 40])
def test_wasserstein_distance_of_a_shifted_pixel_is_the_shift(shift):
    values = np.random.default_rng(0).integers(0, 200, (300, 4, 4, 1)).astype(np.uint8)
    distance = pairs.wasserstein(values, values[::-1] + np.uint8(shift))
    np.testing.assert_allclose(distance, shift / 255, atol=1e-9)


def test_wasserstein_distance_agrees_with_scipy():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, (150, 2, 2, 1)).astype(np.uint8)
    b = (rng.beta(2, 5, (90, 2, 2, 1)) * 255).astype(np.uint8)
    found = pairs.wasserstein(a, b)
    for y, x in np.ndindex(2, 2):
        exact = stats.wasserstein_distance(a[:, y, x, 0], b[:, y, x, 0]) / 255
        assert found[y, x] == pytest.approx(exact, abs=2e-3)


def test_no_pairing_changes_less_than_the_least_change():
    rng = np.random.default_rng(2)
    a = rng.normal(100, 20, (200, 32, 32, 1)).astype(np.uint8)
    b = rng.normal(130, 30, (200, 32, 32, 1)).astype(np.uint8)
    labels = [0] * 200 + [1] * 200
    train = image_set(np.concatenate([a, b]), labels)
    dataset = Dataset(
        train, train.take(np.isin(np.arange(400), [0, 399])), ("A", "B"), "0" * 64
    )
    least, chance = pairs.least_changes(split_reference(dataset), (0, 1))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(200)
        change = np.abs(a.astype(float) - b[order]).mean(0)[..., 0] / 255
        assert np.all(least <= change + 2e-3)
    assert chance.mean() < 0.25 * least.mean()


def test_phantoms_have_regions_that_are_always_and_never_lung():
    masks = pairs.regions(32, "phantom:100")
    assert not (masks["lungs"] & masks["outside of lungs"]).any()
    assert masks["lungs"].sum() > 20 and masks["outside of lungs"].sum() > 300
    assert masks["outside of lungs"][0].all()
    assert set(pairs.regions(32, "path/to/set")) == {"frame", "centre"}
    large = pairs.regions(128, "phantom")["lungs"]
    assert large.shape == (128, 128)
    assert abs(large.mean() - masks["lungs"].mean()) < 0.03
