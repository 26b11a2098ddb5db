import numpy as np
import pytest

from cxr_gan.data import splits
from cxr_gan.data.splits import patient_halves

NAMES = [
    f"train/PNEUMONIA/person{patient}_{germ}_{image}.jpeg"
    for patient in range(500)
    for germ in ("bacteria", "virus")
    for image in range(2)
]


def test_all_images_of_a_patient_are_in_one_half():
    halves: dict = {}
    for name, in_a in zip(NAMES, patient_halves(NAMES), strict=True):
        halves.setdefault(splits.patient_of(name), set()).add(bool(in_a))
    assert len(halves) == 1000
    assert all(len(half) == 1 for half in halves.values())


def test_about_half_of_the_patients_are_in_each_half():
    assert 0.45 < patient_halves(NAMES).mean() < 0.55


def test_half_does_not_depend_on_other_images_or_the_folder():
    expected = patient_halves(NAMES)
    np.testing.assert_array_equal(patient_halves(NAMES[::-1]), expected[::-1])
    np.testing.assert_array_equal(patient_halves(NAMES[7:9]), expected[7:9])
    moved = [name.replace("train/PNEUMONIA", "val/SICK") for name in NAMES]
    np.testing.assert_array_equal(patient_halves(moved), expected)


def test_halves_equal_those_the_bundled_encoder_was_trained_with():
    names = [f"IM-{patient:04}-0001.jpeg" for patient in range(8)]
    expected = [False, False, False, False, True, False, False, False]
    assert patient_halves(names).tolist() == expected


def test_image_without_a_known_patient_counts_as_its_own_patient():
    halves = patient_halves([f"train/NORMAL/chest{i}.png" for i in range(200)])
    assert 60 < halves.sum() < 140


@pytest.mark.parametrize("ids", [[], ()])
def test_empty_ids_give_an_empty_mask(ids):
    assert patient_halves(ids).dtype == bool
    assert patient_halves(ids).shape == (0,)
