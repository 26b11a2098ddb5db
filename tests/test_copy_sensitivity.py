"""benchmarks.copy_sensitivity: what it alters, and that it finds copies alone."""

import numpy as np
import pytest

from benchmarks import copy_sensitivity
from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation.image_sets import ImageGroup


@pytest.mark.parametrize("name", copy_sensitivity.ALTERATIONS)
def test_alterations_change_an_image_a_little(name):
    images = renderer.render_many(0, range(4), 64)[0]
    altered = copy_sensitivity.alter(images, name)
    assert altered.dtype == np.uint8
    assert altered.shape == images.shape
    difference = np.abs(altered.astype(float) - images).mean((1, 2, 3))
    if name == "as they are":
        np.testing.assert_array_equal(altered, images)
    else:
        assert (difference > 1).all()
        assert (difference < 40).all()


def test_copies_are_found_and_other_images_are_not():
    images = renderer.render_many(0, range(180), 64)[0]
    train, val, others = (
        ImageGroup.from_generated(part, np.zeros(60)) for part in np.split(images, 3)
    )
    # Names of patients must differ between the sets.
    val = ImageGroup(val.images, val.labels, np.char.add("val", val.patients))
    copies = {
        "copies": train.images[:10],
        "turned": copy_sensitivity.alter(train.images[:10], "turned by 10 degrees"),
        "others": others.images,
    }
    found = copy_sensitivity.search(copies, train, val, alarms=0.05)
    for view in ("cxr", "pixels", "both"):
        assert found["copies"][view].all()
        assert found["others"][view].mean() < 0.25
    assert found["turned"]["pixels"].all()
    assert found["turned"]["both"].all()
