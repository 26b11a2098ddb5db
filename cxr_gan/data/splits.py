"""Dividing off the images a run is judged by, patient by patient."""

import hashlib
import re
from collections.abc import Callable

import numpy as np
from absl import logging

from cxr_gan.data.sets import ImageSet, Splits

MIN_VAL_PER_CLASS = 50  # with fewer, a validation set says little
HELD_OUT_SHARE = 0.1  # of the images of each class

Patient = tuple[str | int, ...]


def patient_of(name: str) -> Patient | None:
    """The patient an id tells, as (naming, key...), or None if no naming fits."""
    for naming, parse in PATIENT_PARSERS.items():
        key = parse(name)
        if key is not None:
            return (naming, *key)
    return None


def ranked(names: list[str], seed: int) -> list[str]:
    """The names in a random order that is a function of each name alone.

    Hashes, unlike a generator's permutation, are the same with every library version,
    and adding a name moves no other.
    """
    return sorted(
        names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()
    )


def divide(splits: Splits, split_seed: int) -> tuple[ImageSet, ImageSet]:
    """(train, val) of a set, both with images of every class.

    A val with at least MIN_VAL_PER_CLASS images of each class is kept as it is.
    Otherwise a tenth of train is held out, class by class, and joins what val there
    was. Images of one patient (see PATIENT_PARSERS) stay together: patients of a small
    val leave train first, then others in an order drawn from split_seed, passing over
    any with whom val would take more than half of a class. An image whose name tells no
    patient counts as its own, with a warning.

    Raises:
        ValueError: naming the class, if train or val would be left without it.
    """
    num_classes = len(splits.class_names)
    if splits.val is None:
        known: set[Patient] = set()
        so_far = np.zeros(num_classes, np.int64)
    else:
        so_far = splits.val.counts(num_classes)
        known = {patient for name in splits.val.ids if (patient := patient_of(name))}
        if so_far.min() >= MIN_VAL_PER_CLASS:
            _warn_of_shared_patients(splits.train, known)
            return splits.train, splits.val
        logging.warning(
            "val has only %d images of class %r (at least %d are needed); a tenth of "
            "train joins them",
            so_far.min(),
            splits.class_names[int(so_far.argmin())],
            MIN_VAL_PER_CLASS,
        )
    held = _hold_out(splits.train, known, num_classes, split_seed)
    train, moved = splits.train.take(~held), splits.train.take(held)
    so_far = so_far + moved.counts(num_classes)
    for name, left, has in zip(
        splits.class_names, train.counts(num_classes), so_far, strict=True
    ):
        if not left or not has:
            raise ValueError(
                f"class {name!r} has too few images, or too few patients, to hold out "
                f"a tenth for validation (train would keep {left}, val get {has}); add "
                f"images, or a val with at least {MIN_VAL_PER_CLASS} of each class"
            )
    return train, moved if splits.val is None else splits.val.join(moved)


def _warn_of_shared_patients(train: ImageSet, known: set[Patient]) -> None:
    shared = {one for name in train.ids if (one := patient_of(name)) in known}
    if shared:
        logging.warning(
            "%d patients are both in train and in val, such as %s; figures on val will "
            "flatter. To have val divided off by patient, merge it into train",
            len(shared),
            min(map(str, shared)),
        )


def _hold_out(
    train: ImageSet, known: set[Patient], num_classes: int, seed: int
) -> np.ndarray:
    """Which images of train go to val, bool [n]."""
    patients = _patients(train)
    of_patient: dict[str, np.ndarray] = {}
    for patient, label in zip(patients, train.labels, strict=True):
        of_patient.setdefault(patient, np.zeros(num_classes, np.int64))[label] += 1
    total = train.counts(num_classes)
    wanted = np.maximum(1, np.rint(HELD_OUT_SHARE * total))
    chosen = {str(patient) for patient in known} & of_patient.keys()
    held = sum(
        (of_patient[patient] for patient in chosen), np.zeros(num_classes, np.int64)
    )
    for patient in ranked(list(of_patient.keys() - chosen), seed):
        gives = of_patient[patient]
        concerned = gives > 0
        fits = held + gives <= total / 2
        if (held < wanted)[concerned].any() and fits[concerned].all():
            chosen.add(patient)
            held = held + gives
    return np.array([patient in chosen for patient in patients])


def _patients(train: ImageSet) -> list[str]:
    """One name per image: the patient's, else the image's own, with a warning."""
    patients = [patient_of(name) for name in train.ids]
    unknown = [
        name
        for name, patient in zip(train.ids, patients, strict=True)
        if patient is None
    ]
    if unknown:
        logging.warning(
            "%d of %d names, such as %r, tell no patient: these are held out image by "
            "image, and one patient may be both in train and in val. Known namings: %s",
            len(unknown),
            len(patients),
            unknown[0],
            ", ".join(PATIENT_PARSERS),
        )
    return [
        name if patient is None else str(patient)
        for name, patient in zip(train.ids, patients, strict=True)
    ]


def _kermany(name: str) -> Patient | None:
    """person1000_bacteria_2931.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-1427-0001.jpeg.

    Numbers start again for bacteria and virus, and for names with NORMAL2.
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


# Naming -> function from an image's id to its patient's key, None if it does not fit.
# To teach the split another naming, add its function here.
PATIENT_PARSERS: dict[str, Callable[[str], Patient | None]] = {
    # Kermany et al. 2018, doi:10.17632/rscbjbr9sj.
    "kermany": _kermany,
    # Wang et al. 2017, "ChestX-ray8".
    "nih": _nih,
    "phantom": _phantom,
}
