"""benchmarks.spectral_classifier: generated images that can and cannot be told."""

import numpy as np
import pytest

from benchmarks import spectral_classifier
from cxr_gan.evaluation.image_sets import ImageGroup


def noise(n: int, seed: int) -> np.ndarray:
    images = np.random.default_rng(seed).normal(128, 20, (n, 16, 16, 1))
    return images.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("features", spectral_classifier.FEATURES)
def test_stripes_are_told_and_images_of_the_same_distribution_are_not(features):
    power = spectral_classifier.FEATURES[features]
    generated = noise(200, 0)
    halves = [
        ImageGroup.from_generated(noise(100, seed), np.zeros(100)) for seed in (1, 2)
    ]
    for level, low, high in ((0, 0.4, 0.6), (20, 0.95, 1)):
        stripes = generated.copy()
        stripes[:, ::2] += np.uint8(level)
        found = spectral_classifier.classify(
            power, ImageGroup.from_generated(stripes, np.zeros(200)), tuple(halves)
        )
        assert low <= found.value <= high
        assert found.low < found.high or found.value == 1


def test_power_of_a_wave_is_at_its_frequency_alone():
    across = np.cos(2 * np.pi * 4 * np.arange(16) / 16)
    images = np.tile(np.round(128 + 100 * across), (3, 16, 1))[..., None]
    power = spectral_classifier.all_frequencies(images.astype(np.uint8))
    assert power.shape == (3, 16 * 9)
    assert power.argmax(1).tolist() == [4] * 3
