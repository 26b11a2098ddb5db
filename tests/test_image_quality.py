import os
from pathlib import Path

import numpy as np
import pytest

from cxr_gan.data import quality
from cxr_gan.data.formats import decode, image_file
from cxr_gan.data.phantom import renderer

CLASSES = ("NORMAL", "PNEUMONIA")


@pytest.fixture(scope="module")
def phantoms():
    """120 images uint8 [n, 32, 32], and their labels."""
    images, labels = renderer.render_many(0, range(120), 32)
    return images[..., 0], labels


def warnings(images, labels, **options) -> str:
    measured = [quality.measure(image) for image in images]
    return "\n".join(quality.warnings(measured, labels, CLASSES, **options))


def test_measurement_has_hand_computed_values():
    image = np.repeat(np.arange(100, dtype=np.uint8), 100).reshape(100, 100)
    found = quality.measure(image)
    assert (found.mean, found.low, found.high) == (49.5, 0, 98)
    assert not found.inverted
    assert quality.measure(image[::-1, :, np.newaxis]).inverted


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros(256), "nearly black (99 % of its pixels are at most 0 of 255)"),
        (np.arange(256) // 16, "nearly black (99 % of its pixels are at most 15"),
        (240 + np.arange(256) // 16, "nearly white (99 % of its pixels are at least 2"),
        (np.full(256, 128), "nearly constant (98 % of its pixels are from 128 to 128"),
    ],
)
def test_images_without_content_have_a_fault(pixels, words):
    image = pixels.astype(np.uint8).reshape(16, 16)
    assert words in quality.fault(quality.measure(image))


@pytest.mark.parametrize("size", [16, 64])
def test_phantoms_have_neither_faults_nor_warnings(size):
    images, labels = renderer.render_many(1, range(120), size)
    measured = [quality.measure(image) for image in images]
    assert not any(map(quality.fault, measured))
    assert quality.warnings(measured, labels, CLASSES) == ()


def test_negatives_of_one_class_are_counted_and_named(phantoms):
    images, labels = phantoms
    images = np.where(labels[:, None, None] == 1, 255 - images, images)
    names = [f"{i}.png" for i in range(len(images))]
    first, count = np.flatnonzero(labels)[0], labels.sum()
    found = warnings(images, labels, names=names)
    assert f"{count} of {count} images of class 'PNEUMONIA' look like neg" in found
    assert f"such as {first}.png, " in found
    assert "images of class 'NORMAL' look" not in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x // 3, "class 'NORMAL' are much brighter than those of class 'PNE"),
        (lambda x: 100 + x // 4, "'NORMAL' have much more contrast than those of cl"),
    ],
)
def test_classes_of_different_range_are_reported(phantoms, change, words):
    images, labels = phantoms
    images = np.where(labels[:, None, None] == 1, change(images), images)
    found = warnings(images.astype(np.uint8), labels)
    assert words in found
    assert found.count("\n") == 0


def test_few_dark_images_do_not_change_the_comparison_of_classes(phantoms):
    images, labels = phantoms[0].copy(), phantoms[1]
    images[np.flatnonzero(labels)[:20]] //= 4
    assert warnings(images, labels) == ""


def test_class_with_few_images_is_reported(phantoms):
    images, labels = phantoms
    labels = np.where(np.arange(len(labels)) < 5, 1, 0)
    assert "class 'PNEUMONIA' has only 5 images, the largest class has 115" in warnings(
        images, labels
    )


def test_classes_of_different_depth_are_reported(phantoms):
    images, labels = phantoms
    depths = np.where(labels == 1, 12, 8).tolist()
    assert "'NORMAL' have 8 bits, most of class 'PNEUMONIA' have 12" in warnings(
        images, labels, depths=depths
    )
    assert warnings(images, labels, depths=[8, 8, 12, 12] * 30) == ""


@pytest.mark.skipif("CXR_DATA" not in os.environ, reason="needs CXR_DATA")
def test_real_radiographs_have_no_fault_and_no_warning():
    files = sorted(Path(os.environ["CXR_DATA"]).glob("*/*/*.jpeg"))
    labels = [CLASSES.index(file.parent.name) for file in files]
    measured = [
        quality.measure(decode.to_uint8(image_file.read(file, 64), 8)) for file in files
    ]
    assert len(files) > 5000
    assert not any(map(quality.fault, measured))
    assert quality.warnings(measured, labels, CLASSES) == ()
