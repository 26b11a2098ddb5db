"""Splits images into train and val, and into halves A and B, patient by patient."""

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from cxr_gan.data.dataset import ImageSet, RawSplits

MIN_VAL_PER_CLASS = 50  # with fewer images, scores on val are too noisy
HELD_OUT_FRACTION = 0.1  # of the images of each class

Patient = tuple[str | int, ...]


def patient_of(name: str) -> Patient | None:
    """The patient in an image's id, as (naming scheme, key...); None if unknown."""
    for scheme, parse in PATIENT_PARSERS.items():
        key = parse(name)
        if key is not None:
            return (scheme, *key)
    return None


def hash_order(names: list[str], seed: int) -> list[str]:
    """The names in a pseudo-random order: sorted by a hash of seed and name.

    Unlike a generator's permutation, the order is the same with every library version,
    and adding a name does not change the order of the others.
    """
    # Held-out splits and training subsets depend on this string: never change it.
    return sorted(
        names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()
    )


def split_train_val(splits: RawSplits, split_seed: int) -> tuple[ImageSet, ImageSet]:
    """(train, val) of a dataset, both with images of every class.

    A val with at least MIN_VAL_PER_CLASS images of each class is kept unchanged.
    Otherwise a tenth of train, class by class, is held out and added to val, if there
    is one. All images of a patient (see PATIENT_PARSERS) stay together: first the
    patients already in a small val leave train, then others, in an order drawn with
    split_seed. A patient is skipped if val would then contain more than half of a
    class. An image whose id matches no naming scheme counts as a patient of its own,
    with a warning.

    Raises:
        ValueError: train or val would have no images of a class; names the class.
    """
    num_classes = len(splits.class_names)
    val_patients: set[str] = set()
    val_counts = np.zeros(num_classes, np.int64)
    if splits.val is not None:
        val_patients.update(patient_keys(splits.val.ids))
        val_counts = splits.val.counts(num_classes)
        if val_counts.min() >= MIN_VAL_PER_CLASS:
            _warn_of_shared_patients(splits.train, val_patients)
            return splits.train, splits.val
        logging.warning(
            "val has only %d images of class %r (at least %d are needed); a tenth of "
            "train is held out and added to val",
            val_counts.min(),
            splits.class_names[int(val_counts.argmin())],
            MIN_VAL_PER_CLASS,
        )
    mask = _held_out_mask(splits.train, val_patients, num_classes, split_seed)
    train, held_out = splits.train.take(~mask), splits.train.take(mask)
    train_counts = train.counts(num_classes)
    val_counts = val_counts + held_out.counts(num_classes)
    for name, in_train, in_val in zip(
        splits.class_names, train_counts, val_counts, strict=True
    ):
        if not in_train or not in_val:
            raise ValueError(
                f"class {name!r} has too few images, or too few patients, to hold out "
                f"a tenth for validation (train would keep {in_train}, val would "
                f"get {in_val}); add images, or a val with at least "
                f"{MIN_VAL_PER_CLASS} of each class"
            )
    return train, held_out if splits.val is None else splits.val.join(held_out)


def _warn_of_shared_patients(train: ImageSet, val_patients: set[str]) -> None:
    shared = val_patients.intersection(patient_keys(train.ids))
    if shared:
        logging.warning(
            "%d patients are in both train and val, such as %s, so scores on val are "
            "too optimistic. To split by patient, merge val into train",
            len(shared),
            min(shared),
        )


def _held_out_mask(
    train: ImageSet, val_patients: set[str], num_classes: int, seed: int
) -> np.ndarray:
    """Whether each image of train moves to val; bool [n]."""
    patients = patient_keys(train.ids)
    _warn_of_unknown_patients(train.ids)
    counts_of: dict[str, np.ndarray] = {}  # patient -> images of each class
    for patient, label in zip(patients, train.labels, strict=True):
        counts_of.setdefault(patient, np.zeros(num_classes, np.int64))[label] += 1
    total = train.counts(num_classes)
    target = np.maximum(1, np.rint(HELD_OUT_FRACTION * total))
    chosen = val_patients & counts_of.keys()
    held_out = sum((counts_of[patient] for patient in chosen), np.zeros_like(total))
    for patient in hash_order(list(counts_of.keys() - chosen), seed):
        counts = counts_of[patient]
        present = counts > 0  # the patient's classes
        fits = held_out + counts <= total / 2
        if (held_out < target)[present].any() and fits[present].all():
            chosen.add(patient)
            held_out = held_out + counts
    return np.array([patient in chosen for patient in patients])


def patient_keys(names: Sequence[str]) -> list[str]:
    """One key per image: its patient, or its id if that is unknown."""
    # Held-out splits and halves hash these keys: keep their format.
    return [str(patient_of(name) or name) for name in names]


def _warn_of_unknown_patients(names: Sequence[str]) -> None:
    unknown = [name for name in names if patient_of(name) is None]
    if unknown:
        logging.warning(
            "%d of %d image ids, such as %r, match no naming scheme for patients: they "
            "are held out image by image, so one patient may be in both train and val. "
            "Known naming schemes: %s",
            len(unknown),
            len(names),
            unknown[0],
            ", ".join(PATIENT_PARSERS),
        )


def patient_halves(ids: Sequence[str]) -> np.ndarray:
    """Whether each image is in half A, else in half B; bool [n].

    The half depends only on the image's patient (see `PATIENT_PARSERS`), not on other
    images or a seed, so all images of a patient are in the same half. About half of
    the patients are in A. An image whose id matches no naming scheme counts as a
    patient of its own.
    """
    # The bundled encoder was trained on half A: never change the hashed string.
    digests = (
        hashlib.sha256(f"half {key}".encode()).digest() for key in patient_keys(ids)
    )
    return np.array([digest[0] < 128 for digest in digests], bool)


def _kermany(name: str) -> Patient | None:
    """person1000_bacteria_2931.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-1427-0001.jpeg.

    Bacteria, virus, IM and NORMAL2-IM each number their patients separately.
    """
    if match := re.search(r"(?:^|/)person(\d+)_(bacteria|virus)_", name):
        return match[2], int(match[1])
    if match := re.search(r"(?:^|/)(NORMAL2-)?IM-(\d+)-", name):
        return (match[1] or "") + "IM", int(match[2])
    return None


def _nih(name: str) -> Patient | None:
    """00000013_005.png: patient 13, sixth image."""
    match = re.search(r"(?:^|/)(\d{8})_\d{3}\.\w+$", name)
    return (int(match[1]),) if match else None


def _phantom(name: str) -> Patient | None:
    """phantom/0/17: every phantom is a patient of its own."""
    match = re.fullmatch(r"phantom/(\d+)/(\d+)", name)
    return (int(match[1]), int(match[2])) if match else None


# Naming scheme -> function from an image's id to the key of its patient, or None if
# the id does not match. To support another scheme, add its function here.
PATIENT_PARSERS: dict[str, Callable[[str], Patient | None]] = {
    # Kermany et al. 2018, doi:10.17632/rscbjbr9sj.
    "kermany": _kermany,
    # Wang et al. 2017, "ChestX-ray8".
    "nih": _nih,
    "phantom": _phantom,
}
