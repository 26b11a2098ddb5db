"""benchmarks.projection: which images it takes, and what it says of their errors."""

import numpy as np
import pytest

from benchmarks import projection
from cxr_gan.evaluation.image_sets import ImageGroup


def test_smaller_errors_of_training_images_give_an_auroc_of_one():
    low, high = np.linspace(0.01, 0.02, 20), np.linspace(0.03, 0.04, 20)
    assert projection.membership(low, high) == [1, 1, 1]
    assert projection.membership(high, low)[0] == 0


def test_equal_distributions_give_an_interval_around_one_half():
    errors = np.random.default_rng(0).normal(size=(2, 200))
    value, low, high = projection.membership(*errors)
    assert low < 0.5 < high
    assert low < value < high
    assert 0.05 < high - low < 0.2


def test_images_are_of_different_patients_and_equally_many_of_each_class():
    labels = np.repeat([0, 1], 30)
    patients = np.array([f"{i // 3}" for i in range(60)])
    images = np.zeros((60, 8, 8, 1), np.uint8)
    group = ImageGroup(images, labels, patients)
    rows = projection.choose(group, 2, 8, 0)
    assert labels[rows].tolist() == [0] * 8 + [1] * 8
    assert len(set(patients[rows])) == 16
    with pytest.raises(ValueError, match="a class has 10 patients"):
        projection.choose(group, 2, 11, 0)
