import numpy as np

from cxr_gan.data import duplicates

CLASSES = ("NORMAL", "PNEUMONIA")


def warnings(values, labels) -> list[str]:
    images = [np.full((2, 2), value, np.uint8) for value in values]
    digests = [duplicates.digest(image) for image in images]
    names = [f"{row}.png" for row in range(len(values))]
    return list(duplicates.warnings(digests, labels, CLASSES, names))


def test_different_images_cause_no_warning():
    assert warnings([1, 2, 3], [0, 1, 0]) == []


def test_copies_of_one_class_are_counted_without_their_originals():
    (found,) = warnings([1, 1, 1, 2, 2, 3], [0, 0, 0, 1, 1, 1])
    assert found.startswith("3 images are copies, pixel by pixel, of others of their")
    assert "0.png and 1.png; 3.png and 4.png;" in found


def test_equal_images_of_two_classes_are_named_with_their_classes():
    (found,) = warnings([1, 1, 1, 2], [0, 0, 1, 1])
    assert found.startswith("3 images are equal, pixel by pixel, to images of another")
    assert "0.png (NORMAL) and 2.png (PNEUMONIA);" in found
