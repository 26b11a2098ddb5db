"""The limits that real classes set to what changes with the class."""

import numpy as np
import pytest
from scipy import stats

from cxr_gan.evaluation import pairs


def noise(mean, spread, n=200, seed=0):
    values = np.random.default_rng(seed).normal(mean, spread, (n, 4, 4, 1))
    return np.clip(values, 0, 255).astype(np.uint8)


def halves(images):
    """Quantiles of both halves."""
    return tuple(map(pairs.pixel_quantiles, (images[::2], images[1::2])))


def test_least_change_of_a_shifted_class_is_the_shift():
    a = noise(100, 20)
    b = a[::-1] + np.uint8(51)
    least = pairs.least_changes(halves(a), halves(b))
    np.testing.assert_allclose(least["least"], 51 / 255, atol=0.03)
    assert least["least"].mean() == pytest.approx(51 / 255, abs=0.005)
    assert least["chance"].mean() < 0.02


def test_least_change_agrees_with_the_wasserstein_distance_of_scipy():
    a, b = noise(90, 30, 150), noise(140, 50, 90, seed=1)
    of_a, of_b = map(pairs.pixel_quantiles, (a, b))
    found = pairs.least_changes((of_a, of_a), (of_b, of_b))["least"]
    for y, x in np.ndindex(4, 4):
        exact = stats.wasserstein_distance(a[:, y, x, 0], b[:, y, x, 0]) / 255
        assert found[y, x] == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_no_pairing_changes_less_than_the_least_change(seed):
    a, b = noise(100, 20), noise(130, 30, seed=1)
    of_a, of_b = map(pairs.pixel_quantiles, (a, b))
    least = pairs.least_changes((of_a, of_a), (of_b, of_b))["least"]
    order = np.random.default_rng(seed).permutation(200)
    change = np.abs(a.astype(float) - b[order]).mean(0)[..., 0] / 255
    assert np.all(least <= change + 1e-3)


def test_phantoms_have_regions_that_are_always_and_never_lung():
    masks = pairs.regions(32, "phantom:100")
    assert not (masks["lungs"] & masks["outside of lungs"]).any()
    assert masks["lungs"].sum() > 20 and masks["outside of lungs"].sum() > 300
    assert masks["outside of lungs"][0].all()
    assert set(pairs.regions(32, "path/to/set")) == {"frame", "centre"}
    large = pairs.regions(128, "phantom")["lungs"]
    assert large.shape == (128, 128)
    assert abs(large.mean() - masks["lungs"].mean()) < 0.03
