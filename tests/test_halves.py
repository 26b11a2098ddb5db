import numpy as np
import pytest

from cxr_gan.data import splits
from cxr_gan.data.halves import halves

NAMES = [
    f"train/PNEUMONIA/person{patient}_{germ}_{image}.jpeg"
    for patient in range(500)
    for germ in ("bacteria", "virus")
    for image in range(2)
]


def test_all_images_of_a_patient_fall_into_one_half():
    sides: dict = {}
    for name, in_a in zip(NAMES, halves(NAMES), strict=True):
        sides.setdefault(splits.patient_of(name), set()).add(bool(in_a))
    assert len(sides) == 1000
    assert all(len(side) == 1 for side in sides.values())


def test_about_half_of_the_patients_are_in_each_half():
    assert 0.45 < halves(NAMES).mean() < 0.55


def test_a_half_depends_on_no_other_image_and_on_no_folder():
    whole = halves(NAMES)
    np.testing.assert_array_equal(halves(NAMES[::-1]), whole[::-1])
    np.testing.assert_array_equal(halves(NAMES[7:9]), whole[7:9])
    elsewhere = [name.replace("train/PNEUMONIA", "val/SICK") for name in NAMES]
    np.testing.assert_array_equal(halves(elsewhere), whole)


def test_halves_stay_as_they_were_when_the_shipped_encoder_was_taught():
    names = [f"IM-{patient:04}-0001.jpeg" for patient in range(8)]
    wanted = [False, False, False, False, True, False, False, False]
    assert halves(names).tolist() == wanted


def test_an_image_that_tells_no_patient_is_its_own():
    sides = halves([f"train/NORMAL/chest{i}.png" for i in range(200)])
    assert 60 < sides.sum() < 140


@pytest.mark.parametrize("ids", [[], ()])
def test_no_images_have_no_halves(ids):
    assert halves(ids).dtype == bool
    assert halves(ids).shape == (0,)
