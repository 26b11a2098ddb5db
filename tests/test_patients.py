"""Patients of images: from names of known data sets."""

import pytest

from cxr_gan.data.patients import patient_of


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("train/P/person1000_bacteria_2931.jpeg", ("kermany", "bacteria", 1000)),
        ("train/P/person1000_virus_1681.jpeg", ("kermany", "virus", 1000)),
        ("IM-0115-0001.jpeg", ("kermany", "IM", 115)),
        ("train/NORMAL/IM-0640-0001-0001.jpeg", ("kermany", "IM", 640)),
        ("NORMAL2-IM-1427-0001.jpeg", ("kermany", "NORMAL2-IM", 1427)),
        ("val/Effusion/00000013_005.png", ("nih", 13)),
        ("phantom/0/17", ("phantom", 0, 17)),
        ("train/NORMAL/chest13.png", None),
        ("train/17", None),
    ],
)
def test_patient_is_parsed_from_ids_of_known_datasets(name, patient):
    assert patient_of(name) == patient
