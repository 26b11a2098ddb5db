"""The types that the modules of the data package exchange; plain NumPy."""

import dataclasses
import hashlib
import itertools
import mmap
from collections.abc import Callable, Iterator, Sequence

import numpy as np

BLOCK = 2**24  # bytes that are hashed at a time

# What was read, such as {"left out": {"lateral views": 3}}; without names of files.
Summary = dict[str, dict[str, int]]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """One split: n square greyscale images with a label and an id each.

    Raises:
        ValueError: shapes or types are not as stated at the fields.
    """

    images: np.ndarray  # uint8 [n, s, s, 1]; may be memory-mapped
    labels: np.ndarray  # int32 [n] in 0..K-1
    ids: tuple[str, ...]  # one per image, e.g. "train/NORMAL/a.jpeg", "phantom/0/17"
    files: tuple[str, ...] = ()  # path of each in its data set; () if there are none
    # Key of each image's patient, equal for images of one patient, and equal to the
    # image's id if its patient is unknown; () if the ids tell it (patients.keys_of).
    patients: tuple[str, ...] = ()
    halves: tuple[
        str, ...
    ] = ()  # "A" or "B"; () if the keys tell it (splits.in_half_a)

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
        for name in ("files", "patients", "halves"):
            if len(getattr(self, name)) not in (0, n):
                raise ValueError(f"{len(getattr(self, name))} {name} for {n} ids")

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self, num_classes: int) -> np.ndarray:
        """Number of images of each class; int64 [num_classes]."""
        return np.bincount(self.labels, minlength=num_classes)

    def take(self, mask: np.ndarray) -> "ImageSet":
        """The images where mask, bool [n], is true, in the same order."""
        return ImageSet(
            self.images[mask],
            self.labels[mask],
            tuple(itertools.compress(self.ids, mask)),
            tuple(itertools.compress(self.files, mask)),
            tuple(itertools.compress(self.patients, mask)),
            tuple(itertools.compress(self.halves, mask)),
        )

    def join(self, other: "ImageSet") -> "ImageSet":
        """The images of this set, followed by those of the other.

        Raises:
            ValueError: only one of them has patients, or halves.
        """
        return ImageSet(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
            self.ids + other.ids,
            self.files + other.files if self.files and other.files else (),
            self.patients + other.patients,
            self.halves + other.halves,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class RawSplits:
    """What a source contains, before images are held out for validation."""

    train: ImageSet
    val: ImageSet | None  # None if the source has no val split
    class_names: tuple[str, ...]  # index = label
    notes: tuple[str, ...] = ()  # warnings to log at each load, cached or not
    identity: str | None = None  # of (train, val), where it is known
    is_split: bool = False  # whether val, if there is one, is kept however small it is
    summary: Summary = dataclasses.field(default_factory=dict)


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
    summary: Summary = dataclasses.field(default_factory=dict)


def identity(train: ImageSet, val: ImageSet, class_names: tuple[str, ...]) -> str:
    """sha256 hex of the class names, and of images, labels and ids of both splits.

    It does not depend on where the data are stored. The ids are included because
    batches depend on them (see splits.select_subset).
    """
    # Runs and reports store this digest: the hashed bytes must never change.
    digest = hashlib.sha256(repr(class_names).encode())
    for split in (train, val):
        digest.update(repr((split.images.shape, split.ids)).encode())
        for images in blocks(split.images):
            digest.update(images.data)
        digest.update(split.labels.tobytes())
    return digest.hexdigest()


def blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """The images, a few megabytes at a time, so that a mapped file fills no memory."""
    count = max(1, BLOCK // max(1, images[:1].nbytes))
    for start in range(0, len(images), count):
        yield np.ascontiguousarray(images[start : start + count])
        mapped = getattr(images, "_mmap", None)
        if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):  # not Windows
            mapped.madvise(mmap.MADV_DONTNEED)


def check_classes(
    class_names: Sequence[str],
    in_train: Sequence[int] | np.ndarray,
    in_val: Sequence[int] | np.ndarray | None,
    where: str,
) -> None:
    """Checks that a class-conditional GAN can be trained on so many images.

    Args:
        class_names: K names.
        in_train: images of each class in train, [K].
        in_val: the same of val; None if there is no val.
        where: names the dataset in errors.

    Raises:
        ValueError: there are fewer than two classes, or a class has no image in one
            of the existing splits.
    """
    if len(class_names) < 2:
        raise ValueError(
            f"{where}: only one class, {class_names[0]!r}; "
            "a class-conditional GAN needs images of at least two"
        )
    if in_val is None:
        in_val = in_train
    for name, train, val in zip(class_names, in_train, in_val, strict=True):
        if not train and not val:
            raise ValueError(
                f"{where}: class {name!r} has no images; add some or remove the class"
            )
        if not train or not val:
            has, lacks = ("train", "val") if train else ("val", "train")
            raise ValueError(
                f"{where}: class {name!r} is in {has} but not in {lacks}; every split "
                f"needs images of every class: add some to {lacks}, or remove the "
                f"class from {has}, or remove val to have a tenth of train held out"
            )
