"""Splits images into train and val, halves A and B, and subsets for training."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from cxr_gan.data import patients
from cxr_gan.data.dataset import ImageSet, RawSplits

MIN_VAL_PER_CLASS = 50  # with fewer images, scores on val are too noisy
HELD_OUT_FRACTION = 0.1  # of the images of each class
SUBSET_SEED = 0  # for samples_per_class: every run uses the same images


def hash_order(names: list[str], seed: int) -> list[str]:
    """The names in a pseudo-random order: sorted by a hash of seed and name.

    Unlike a generator's permutation, the order is the same with every library version,
    and adding a name does not change the order of the others.
    """
    # Held-out splits and training subsets depend on this string: never change it.
    return sorted(
        names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()
    )


def split_train_val(
    splits: RawSplits, split_seed: int
) -> tuple[ImageSet, ImageSet, list[str]]:
    """(train, val, warnings) of a dataset; see `held_out`.

    Images that move to val follow the images of the source's own val. A val whose
    images were selected when the set was written (`is_split`) is kept unchanged.

    Raises:
        ValueError: train or val would have no images of a class; names the class.
    """
    train, val = splits.train, splits.val
    train_keys = patients.keys_of(train)
    val_keys = [] if val is None else patients.keys_of(val)
    if val is not None and splits.is_split:
        return train, val, _notes_of_shared_patients(train_keys, val_keys)
    labels = train.labels if val is None else np.append(train.labels, val.labels)
    in_val = np.arange(len(labels)) >= len(train)
    is_val, notes = held_out(
        labels, train_keys + val_keys, in_val, splits.class_names, split_seed
    )
    moved = is_val[: len(train)]
    unknown = [
        id_ for id_, key in zip(train.ids, train_keys, strict=True) if id_ == key
    ]
    if unknown and moved.any():
        notes.append(patients.note_of_unknown(unknown, len(train)))
    if not moved.any():
        assert val is not None
        return train, val, notes
    added = train.take(moved)
    return train.take(~moved), added if val is None else val.join(added), notes


def held_out(
    labels: np.ndarray,
    keys: Sequence[str],
    in_val: np.ndarray,
    class_names: Sequence[str],
    split_seed: int,
) -> tuple[np.ndarray, list[str]]:
    """Whether each image is in val in the end, bool [n]; and warnings.

    A val with at least MIN_VAL_PER_CLASS images of each class is kept unchanged.
    Otherwise a tenth of train, class by class, is held out and added to val, if there
    is one. All images of a patient stay together: first the patients already in a small
    val leave train, then others, in an order drawn with split_seed. A patient is
    skipped if val would then contain more than half of a class.

    Args:
        labels: index into class_names, int [n].
        keys: images with equal keys are of one patient, [n].
        in_val: whether the source has the image in val, else in train; bool [n].
        class_names: K names.
        split_seed: seed of the order in which patients are drawn.

    Raises:
        ValueError: train or val would have no images of a class; names the class.
    """
    notes: list[str] = []
    num_classes = len(class_names)
    val_counts = np.bincount(labels[in_val], minlength=num_classes)
    train_keys = [key for key, is_val in zip(keys, in_val, strict=True) if not is_val]
    val_keys = {key for key, is_val in zip(keys, in_val, strict=True) if is_val}
    if in_val.any():
        if val_counts.min() >= MIN_VAL_PER_CLASS:
            return in_val, _notes_of_shared_patients(train_keys, val_keys)
        notes.append(
            f"val has only {val_counts.min()} images of class "
            f"{class_names[int(val_counts.argmin())]!r} (at least {MIN_VAL_PER_CLASS} "
            "are needed); a tenth of train is held out and added to val"
        )
    result = in_val.copy()
    result[~in_val] = _drawn(
        labels[~in_val], train_keys, val_keys, num_classes, split_seed
    )
    for name, in_train, now_in_val in zip(
        class_names,
        np.bincount(labels[~result], minlength=num_classes),
        np.bincount(labels[result], minlength=num_classes),
        strict=True,
    ):
        if not in_train or not now_in_val:
            raise ValueError(
                f"class {name!r} has too few images, or too few patients, to hold out "
                f"a tenth for validation (train would keep {in_train}, val would "
                f"get {now_in_val}); add images, or a val with at least "
                f"{MIN_VAL_PER_CLASS} of each class"
            )
    return result, notes


def _drawn(
    labels: np.ndarray,
    keys: Sequence[str],
    val_keys: set[str],
    num_classes: int,
    seed: int,
) -> np.ndarray:
    """Whether each image of train moves to val; bool [n]."""
    counts_of: dict[str, np.ndarray] = {}  # patient -> images of each class
    for key, label in zip(keys, labels, strict=True):
        counts_of.setdefault(key, np.zeros(num_classes, np.int64))[label] += 1
    total = np.bincount(labels, minlength=num_classes)
    target = np.maximum(1, np.rint(HELD_OUT_FRACTION * total))
    chosen = val_keys & counts_of.keys()
    moved = sum((counts_of[key] for key in chosen), np.zeros_like(total))
    for key in hash_order(list(counts_of.keys() - chosen), seed):
        counts = counts_of[key]
        present = counts > 0  # the patient's classes
        fits = moved + counts <= total / 2
        if (moved < target)[present].any() and fits[present].all():
            chosen.add(key)
            moved = moved + counts
    return np.array([key in chosen for key in keys])


def _notes_of_shared_patients(train: Sequence[str], val: Iterable[str]) -> list[str]:
    shared = set(train).intersection(val)
    if not shared:
        return []
    return [
        f"{len(shared)} patients are in both train and val, so scores on val are too "
        "optimistic. To split by patient, merge val into train"
    ]


def in_half_a(images: ImageSet) -> np.ndarray:
    """Whether each image is in half A, else in half B; bool [n].

    As the set has them (`ImageSet.halves`), or else from the patients' keys; see
    `keys_in_half_a`.
    """
    if images.halves:
        return np.array([half == "A" for half in images.halves])
    return keys_in_half_a(patients.keys_of(images))


def keys_in_half_a(keys: Sequence[str]) -> np.ndarray:
    """Whether each image is in half A, from the key of its patient; bool [n].

    The half depends on the key alone, not on other images or a seed, so all images of a
    patient are in the same half. About half of the patients are in A.
    """
    # The bundled encoder was trained on half A: never change the hashed string.
    digests = (hashlib.sha256(f"half {key}".encode()).digest() for key in keys)
    return np.array([digest[0] < 128 for digest in digests], bool)


def select_subset(
    images: ImageSet, num_classes: int, samples_per_class: tuple[int, ...]
) -> list[np.ndarray]:
    """Row indices of the images to use, one int64 [n] per class, in a fixed order.

    The subset of a smaller number is contained in that of a larger one. The choice
    depends only on the ids of the images.

    Raises:
        ValueError: a class has no images, or fewer than samples_per_class (the message
            names it); samples_per_class or num_classes does not fit the labels.
    """
    if len(samples_per_class) not in (1, num_classes):
        raise ValueError(
            f"samples_per_class={samples_per_class} has {len(samples_per_class)} "
            f"numbers for {num_classes} classes; give 1 or {num_classes}"
        )
    if images.labels.max(initial=0) >= num_classes:
        raise ValueError(
            f"labels go up to {images.labels.max()}, so num_classes={num_classes} must "
            "be greater"
        )
    limits = np.broadcast_to(samples_per_class, num_classes).tolist()
    subset = []
    for label, limit in enumerate(limits):
        row_of = {images.ids[i]: i for i in np.flatnonzero(images.labels == label)}
        if not row_of:
            raise ValueError(
                f"class {label} has no images; add some, or use a num_classes below "
                f"{num_classes}"
            )
        if not 0 <= limit <= len(row_of):
            raise ValueError(
                f"samples_per_class={samples_per_class} asks for {limit} of class "
                f"{label} (that of {next(iter(row_of))!r}), which has "
                f"{len(row_of)} images; use at most {len(row_of)}, or 0 for all"
            )
        order = hash_order(list(row_of), SUBSET_SEED)[: limit or None]
        subset.append(np.array([row_of[name] for name in order], np.int64))
    return subset
