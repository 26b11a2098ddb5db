"""The types that the modules of the data package exchange; plain NumPy."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

CHUNK = 4096  # images hashed at a time


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """One split: n square greyscale images with a label and an id each.

    Raises:
        ValueError: shapes or types are not as stated at the fields.
    """

    images: np.ndarray  # uint8 [n, s, s, 1]; may be memory-mapped
    labels: np.ndarray  # int32 [n] in 0..K-1
    ids: tuple[str, ...]  # one per image, e.g. "train/NORMAL/a.jpeg", "phantom/0/17"

    def __post_init__(self) -> None:
        n = len(self.ids)
        size = self.images.shape[1] if self.images.ndim == 4 else 0
        if self.images.dtype != np.uint8 or self.images.shape != (n, size, size, 1):
            raise ValueError(
                f"images are {self.images.dtype} {list(self.images.shape)} for {n} "
                f"ids; must be uint8 [{n}, s, s, 1]"
            )
        if self.labels.dtype != np.int32 or self.labels.shape != (n,):
            raise ValueError(
                f"labels are {self.labels.dtype} {list(self.labels.shape)} for {n} "
                f"ids; must be int32 [{n}]"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self, num_classes: int) -> np.ndarray:
        """Number of images of each class; int64 [num_classes]."""
        return np.bincount(self.labels, minlength=num_classes)

    def take(self, mask: np.ndarray) -> "ImageSet":
        """The images where mask, bool [n], is true, in the same order."""
        ids = tuple(id_ for id_, kept in zip(self.ids, mask, strict=True) if kept)
        return ImageSet(self.images[mask], self.labels[mask], ids)

    def join(self, other: "ImageSet") -> "ImageSet":
        """The images of this set, followed by those of the other."""
        return ImageSet(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
            self.ids + other.ids,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class RawSplits:
    """What a source contains, before images are held out for validation."""

    train: ImageSet
    val: ImageSet | None  # None if the source has no val split
    class_names: tuple[str, ...]  # index = label
    notes: tuple[str, ...] = ()  # warnings to log at each load, cached or not


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset whose files are found and checked, but not decoded yet."""

    # Changes whenever `read` would return something else. None: do not cache.
    fingerprint: str | None
    read: Callable[[int], RawSplits]  # resolution in px -> decoded splits; slow


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The images a run is trained on (train) and evaluated against (val)."""

    train: ImageSet
    val: ImageSet
    class_names: tuple[str, ...]  # index = label
    identity: str  # sha256 hex of all that batches depend on; see `identity`


def identity(train: ImageSet, val: ImageSet, class_names: tuple[str, ...]) -> str:
    """sha256 hex of the class names, and of images, labels and ids of both splits.

    It does not depend on where the data are stored. The ids are included because
    batches depend on them (see pipeline.select_subset).
    """
    # Runs and reports store this digest: the hashed bytes must never change.
    digest = hashlib.sha256(repr(class_names).encode())
    for split in (train, val):
        digest.update(repr((split.images.shape, split.ids)).encode())
        for start in range(0, len(split), CHUNK):  # mapped images may exceed memory
            digest.update(split.images[start : start + CHUNK].tobytes())
        digest.update(split.labels.tobytes())
    return digest.hexdigest()


def check_classes(splits: RawSplits, where: str) -> None:
    """Checks that a class-conditional GAN can be trained on the splits.

    Args:
        splits: the dataset.
        where: names the dataset in errors.

    Raises:
        ValueError: there are fewer than two classes, or a class has no image in one
            of the existing splits.
    """
    names = splits.class_names
    if len(names) < 2:
        raise ValueError(
            f"{where}: only one class, {names[0]!r}; "
            "a class-conditional GAN needs images of at least two"
        )
    train = splits.train.counts(len(names))
    val = train if splits.val is None else splits.val.counts(len(names))
    for name, in_train, in_val in zip(names, train, val, strict=True):
        if not in_train and not in_val:
            raise ValueError(
                f"{where}: class {name!r} has no images; add some or remove the class"
            )
        if not in_train or not in_val:
            has, lacks = ("train", "val") if in_train else ("val", "train")
            raise ValueError(
                f"{where}: class {name!r} is in {has} but not in {lacks}; "
                f"every split needs images of every class: add some to {lacks}, or "
                f"remove the class from {has}"
            )
