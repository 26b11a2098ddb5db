"""What the parts of the data package hand to each other: plain NumPy."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

CHUNK = 4096  # images looked at together


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """One split: n square grey images, their labels and a name for each.

    Raises:
        ValueError: if shapes or types are not as stated at the fields.
    """

    images: np.ndarray  # uint8 [n, s, s, 1]; a memory map will do as well
    labels: np.ndarray  # int32 [n], 0..K-1
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
        """Images of each class, int64 [num_classes]."""
        return np.bincount(self.labels, minlength=num_classes)

    def take(self, which: np.ndarray) -> "ImageSet":
        """The images where which, bool [n], is true, in the same order."""
        ids = tuple(name for name, taken in zip(self.ids, which, strict=True) if taken)
        return ImageSet(self.images[which], self.labels[which], ids)

    def join(self, other: "ImageSet") -> "ImageSet":
        """These images, then the other's."""
        return ImageSet(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
            self.ids + other.ids,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """What a source holds, before a validation set is divided off."""

    train: ImageSet
    val: ImageSet | None  # None where the source has none
    class_names: tuple[str, ...]  # index = label
    notes: tuple[str, ...] = ()  # warnings to repeat at each load, cached or not


@dataclasses.dataclass(frozen=True)
class Source:
    """A set that was found and looked over, but not decoded yet."""

    # Differs whenever `read` would read something else; None: not worth a cache.
    fingerprint: str | None
    read: Callable[[int], Splits]  # resolution in px -> decoded; slow


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """What a run trains on and is judged against."""

    train: ImageSet
    val: ImageSet
    class_names: tuple[str, ...]  # index = label
    identity: str  # sha256 hex of all that batches depend on, wherever it was read from


def identity(train: ImageSet, val: ImageSet, class_names: tuple[str, ...]) -> str:
    """sha256 hex of class names, and of images, labels and ids of both splits.

    The ids count because batches depend on them (see pipeline.members).
    """
    digest = hashlib.sha256(repr(class_names).encode())
    for part in (train, val):
        digest.update(repr((part.images.shape, part.ids)).encode())
        for start in range(0, len(part), CHUNK):  # not all, for it may not fit
            digest.update(part.images[start : start + CHUNK].tobytes())
        digest.update(part.labels.tobytes())
    return digest.hexdigest()


def check_classes(splits: Splits, where: str) -> None:
    """Refuses a set no class-conditional GAN can learn from.

    Raises:
        ValueError: if there are fewer than two classes, or a class has no image in a
            split that is there.
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
                f"{where}: class {name!r} has no images; add some or drop it"
            )
        if not in_train or not in_val:
            has, lacks = ("train", "val") if in_train else ("val", "train")
            raise ValueError(
                f"{where}: class {name!r} is in {has} but not in {lacks}; "
                f"every split needs images of every class: add some to {lacks}, or "
                f"remove the class from {has}"
            )
