import dataclasses

import numpy as np
import pytest

from cxr_gan.data import splits
from cxr_gan.data.dataset import ImageSet, RawSplits
from cxr_gan.data.patients import patient_keys, patient_of

NAMES = ("NORMAL", "PNEUMONIA")


def image_set(names: list[str], labels) -> ImageSet:
    images = np.zeros((len(names), 2, 2, 1), np.uint8)
    return ImageSet(images, np.array(labels, np.int32), tuple(names))


def kermany(patients: int, split: str = "train", first: int = 0) -> ImageSet:
    """`patients` patients of each class with 1 to 4 images each."""
    names, labels = [], []
    for patient in range(first, first + patients):
        for image in range(1 + patient % 4):
            names.append(f"{split}/NORMAL/IM-{patient:04}-{image:04}.jpeg")
            names.append(f"{split}/PNEUMONIA/person{patient}_virus_{image}.jpeg")
            labels += [0, 1]
    return image_set(names, labels)


def unnamed(*counts: int, split: str = "train") -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    return image_set([f"{split}/{i}" for i in range(len(labels))], labels)


def patients_of(images: ImageSet) -> set:
    return {patient_of(name) for name in images.ids}


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_both_train_and_the_held_out_tenth(seed):
    images = kermany(200)
    train, val, _ = splits.split_train_val(RawSplits(images, None, NAMES), seed)
    assert not patients_of(train) & patients_of(val)
    assert sorted(train.ids + val.ids) == sorted(images.ids)
    fraction = val.counts(2) / images.counts(2)
    assert (fraction >= 0.1).all()
    assert (fraction < 0.11).all()


def test_patient_with_images_of_two_classes_stays_together():
    names = [
        f"train/{c}/{p:08}_00{i}.png" for c in "AB" for p in range(60) for i in "01"
    ]
    images = image_set(names, [0] * 120 + [1] * 120)
    train, val, _ = splits.split_train_val(RawSplits(images, None, ("A", "B")), 0)
    assert not patients_of(train) & patients_of(val)
    assert (val.counts(2) >= 12).all()


def test_held_out_tenth_is_a_function_of_the_seed():
    raw = RawSplits(kermany(200), None, NAMES)
    first, again, other = (splits.split_train_val(raw, s)[1].ids for s in (1, 1, 2))
    assert first == again != other


def test_ids_without_a_patient_are_held_out_by_image_with_a_warning():
    raw = RawSplits(unnamed(50, 31), None, NAMES)
    train, val, (note,) = splits.split_train_val(raw, 0)
    np.testing.assert_array_equal(val.counts(2), [5, 3])
    np.testing.assert_array_equal(train.counts(2), [45, 28])
    assert note.startswith("81 of 81 image ids, such as 'train/0', match no naming")


def test_large_enough_val_is_kept_unchanged():
    raw = RawSplits(kermany(200), unnamed(50, 50, split="val"), NAMES)
    train, val, _ = splits.split_train_val(raw, 0)
    assert train is raw.train
    assert val is raw.val


def test_patients_shared_by_train_and_an_existing_val_are_noted():
    raw = RawSplits(kermany(40), kermany(40, "val", first=39), NAMES)
    (note,) = splits.split_train_val(raw, 0)[2]
    assert note.startswith("2 patients are in both train and val")


def test_small_val_gains_a_tenth_of_train_and_all_images_of_its_patients():
    small = kermany(3, "val", first=198)  # patients 198 and 199 are in train as well
    images = kermany(200)
    train, val, _ = splits.split_train_val(RawSplits(images, small, NAMES), 0)
    assert val.ids[: len(small)] == small.ids
    assert not patients_of(train) & patients_of(val)
    assert len(train) + len(val) == len(images) + len(small)
    assert (val.counts(2) - small.counts(2) >= images.counts(2) // 10).all()


def test_val_with_one_class_below_fifty_images_is_small():
    raw = RawSplits(unnamed(100, 100), unnamed(500, 49, split="val"), NAMES)
    np.testing.assert_array_equal(
        splits.split_train_val(raw, 0)[1].counts(2), [510, 59]
    )


def test_patient_with_most_of_a_class_stays_in_train():
    names = [f"train/A/IM-0001-{i:04}.png" for i in range(18)]
    names += [f"train/A/IM-0002-{i:04}.png" for i in range(2)]
    names += [f"train/B/person{i}_virus_1.png" for i in range(20)]
    images = image_set(names, [0] * 20 + [1] * 20)
    for seed in range(8):
        _, val, _ = splits.split_train_val(RawSplits(images, None, NAMES), seed)
        np.testing.assert_array_equal(val.counts(2), [2, 2])


@pytest.mark.parametrize(
    "names",
    [
        ["train/NORMAL/IM-0001-0001.png"],
        [f"train/NORMAL/IM-0001-{i:04}.png" for i in range(30)],
    ],
)
def test_class_that_cannot_be_split_is_named(names):
    others = [f"train/PNEUMONIA/person{i}_virus_1.png" for i in range(30)]
    images = image_set(names + others, [0] * len(names) + [1] * len(others))
    with pytest.raises(
        ValueError, match="class 'NORMAL' has too few images, or too few"
    ):
        splits.split_train_val(RawSplits(images, None, NAMES), 0)


def test_hash_order_of_names_is_unchanged_when_a_name_is_added():
    names = [f"image {i}" for i in range(20)]
    more = splits.hash_order([*names, "another"], 5)
    more.remove("another")
    assert more == splits.hash_order(names, 5)
    assert more != names


MANY = [
    f"train/PNEUMONIA/person{patient}_{germ}_{image}.jpeg"
    for patient in range(500)
    for germ in ("bacteria", "virus")
    for image in range(2)
]


def test_all_images_of_a_patient_are_in_one_half_of_about_half_of_the_patients():
    in_a = splits.keys_in_half_a(patient_keys(MANY))
    moved = [name.replace("train/PNEUMONIA", "val/SICK") for name in MANY[::-1]]
    np.testing.assert_array_equal(
        splits.keys_in_half_a(patient_keys(moved)), in_a[::-1]
    )
    halves: dict = {}
    for name, half in zip(MANY, in_a, strict=True):
        halves.setdefault(patient_of(name), set()).add(bool(half))
    assert len(halves) == 1000
    assert all(len(half) == 1 for half in halves.values())
    assert 0.45 < in_a.mean() < 0.55
    unknown = splits.keys_in_half_a([f"train/NORMAL/chest{i}.png" for i in range(200)])
    assert 60 < unknown.sum() < 140


def test_halves_equal_those_the_bundled_encoder_was_trained_with():
    names = [f"IM-{patient:04}-0001.jpeg" for patient in range(8)]
    expected = [False, False, False, False, True, False, False, False]
    assert splits.keys_in_half_a(patient_keys(names)).tolist() == expected


def test_patients_of_the_set_come_before_those_of_its_ids():
    ids = [f"train/{c}/IM-0001-{i:04}.png" for c in "AB" for i in range(40)]
    patients = tuple(f"patient {i // 2}" for i in range(80))  # two images each
    images = dataclasses.replace(image_set(ids, [0] * 40 + [1] * 40), patients=patients)
    train, val, _ = splits.split_train_val(RawSplits(images, None, ("A", "B")), 0)
    np.testing.assert_array_equal(val.counts(2), [4, 4])
    assert not set(train.patients) & set(val.patients)
    np.testing.assert_array_equal(
        splits.in_half_a(val), splits.keys_in_half_a(val.patients)
    )


def test_val_of_a_set_that_is_split_is_kept_however_small_it_is():
    raw = RawSplits(kermany(40), kermany(3, "val", first=39), NAMES, is_split=True)
    train, val, (note,) = splits.split_train_val(raw, 0)
    assert train is raw.train
    assert val is raw.val
    assert note.startswith("2 patients are in both train and val")


def test_held_out_needs_labels_and_keys_alone():
    images = kermany(60)
    small = kermany(2, "val", first=59)  # patient 59 is in train as well
    both = images.join(small)
    in_val = np.arange(len(both)) >= len(images)
    keys = patient_keys(both.ids)
    result, _ = splits.held_out(both.labels, keys, in_val, NAMES, 3)
    train, val, _ = splits.split_train_val(RawSplits(images, small, NAMES), 3)
    assert both.take(~result).ids == train.ids
    assert set(both.take(result).ids) == set(val.ids)
    assert result[in_val].all()


def test_halves_of_the_set_come_before_those_of_its_patients():
    images = dataclasses.replace(unnamed(3, 3), halves=tuple("ABBABA"))
    expected = [True, False, False, True, False, True]
    assert splits.in_half_a(images).tolist() == expected
    odd = images.take(np.array([0, 1, 0, 1, 0, 1], bool))
    assert odd.halves == ("B", "A", "A")
    assert odd.join(images).halves == tuple("BAAABBABA")
    with pytest.raises(ValueError, match="3 halves for 9 ids"):
        odd.join(unnamed(3, 3))
