"""The sets of images that are compared: generated images and parts of a real set."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_gan.data import Dataset, ImageSet
from cxr_gan.data.patients import keys_of
from cxr_gan.data.splits import in_half_a
from cxr_gan.evaluation.metrics.feature_spaces import FeatureSpace
from cxr_gan.evaluation.results import POOLED

MIN_PER_CLASS = 10  # images of each class in every set; fewer are refused
# With fewer images: no FID, precision, recall, density, coverage or spacing.
MIN_TRUSTED_PER_CLASS = 50


@dataclasses.dataclass(frozen=True, eq=False)
class ImageGroup:
    """One set of images, with labels and patients."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    labels: np.ndarray  # int [n]
    patients: np.ndarray  # str [n]; images of one patient are not independent

    @classmethod
    def from_image_set(cls, images: ImageSet) -> "ImageGroup":
        """An image of an unknown patient counts as a patient of its own."""
        patients = keys_of(images)
        return cls(images.images, images.labels, np.array(patients, np.str_))

    @classmethod
    def from_generated(cls, images: np.ndarray, labels: np.ndarray) -> "ImageGroup":
        """Treats each generated image as its own patient."""
        patients = [f"generated/{index}" for index in range(len(images))]
        return cls(images, labels, np.array(patients, np.str_))

    def __len__(self) -> int:
        return len(self.images)

    def select(self, labels: Sequence[int], n: int, seed: int) -> np.ndarray:
        """Indices of n random images of each label; int64 [n * len(labels)].

        For the same seed, the selection for a smaller n is a subset of that for a
        larger n.

        Raises:
            ValueError: a label has fewer than n images.
        """
        selected = []
        for label in labels:
            members = np.flatnonzero(self.labels == label)
            if len(members) < n:
                raise ValueError(
                    f"there are {len(members)} images of label {label}, but {n} are "
                    "needed; give more images of it"
                )
            rng = np.random.default_rng([seed, label])
            selected.append(rng.permutation(members)[:n])
        return np.concatenate(selected)


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceSplits:
    """A real data set split for evaluation, without exact duplicates."""

    train: ImageSet  # half A, then half B, of the patients of train
    val: ImageSet
    in_a: np.ndarray  # bool [n], whether each image of train is in half A
    rows: np.ndarray  # int64 [n], of each image of train in the data set's own train
    class_names: tuple[str, ...]
    dropped: int  # images removed as bit-identical to another one of the set

    def image_groups(self) -> dict[str, ImageGroup]:
        """The sets "A", "B" and "val"."""
        parts = self.train.take(self.in_a), self.train.take(~self.in_a), self.val
        return {
            name: ImageGroup.from_image_set(part)
            for name, part in zip(("A", "B", "val"), parts, strict=True)
        }


def split_reference(dataset: Dataset) -> ReferenceSplits:
    """Removes exact duplicates and splits train into halves A and B by patient.

    Of equal images the first is kept; images of train come before those of val.
    """
    joined = dataset.train.join(dataset.val)
    index = np.arange(len(joined))
    kept, is_train = first_equal(joined.images) == index, index < len(dataset.train)
    train, val = joined.take(kept & is_train), joined.take(kept & ~is_train)
    in_a, rows = in_half_a(train), np.flatnonzero(kept & is_train)
    return ReferenceSplits(
        train=train.take(in_a).join(train.take(~in_a)),
        val=val,
        in_a=np.sort(in_a)[::-1],
        rows=rows[np.argsort(~in_a, kind="stable")],
        class_names=dataset.class_names,
        dropped=int(np.sum(~kept)),
    )


def first_equal(images: np.ndarray) -> np.ndarray:
    """Index of the first image that is bit-identical to each image; int64 [n]."""
    first: dict[bytes, int] = {}
    return np.array(
        [first.setdefault(image.tobytes(), at) for at, image in enumerate(images)],
        np.int64,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationContext:
    """All image sets of an evaluation, its feature spaces and label classifier."""

    image_groups: dict[str, ImageGroup]  # "generated", "A", "B", "val"
    class_names: tuple[str, ...]
    seed: int  # of every selection and interval
    spaces: dict[str, FeatureSpace]
    classifier: Any  # params of a label classifier trained on half B
    _features: dict[str, dict[str, np.ndarray]] = dataclasses.field(
        default_factory=dict
    )  # cache: space -> set -> features

    def features(self, space: str) -> dict[str, np.ndarray]:
        """Features of each set, float [n, d]; computed once for each space."""
        if space not in self._features:
            extract = self.spaces[space].extract
            self._features[space] = {
                name: extract(group.images) for name, group in self.image_groups.items()
            }
        return self._features[space]

    @functools.cached_property
    def label_groups(self) -> dict[str, tuple[int, ...]]:
        """Name -> labels: each class separately, then all classes pooled."""
        single = {name: (label,) for label, name in enumerate(self.class_names)}
        return {**single, POOLED: tuple(range(len(self.class_names)))}

    def min_count(self, labels: Sequence[int], names: Sequence[str]) -> int:
        """Largest n such that every named set has n images of each label."""
        return min(
            int(np.sum(self.image_groups[name].labels == label))
            for label in labels
            for name in names
        )

    def select(self, name: str, labels: Sequence[int], n: int) -> np.ndarray:
        """`ImageGroup.select` from the named set, with the seed of the evaluation."""
        return self.image_groups[name].select(labels, n, self.seed)

    def check(self) -> list[str]:
        """Warnings about sets with fewer than 50 images of a class.

        Raises:
            ValueError: a set has fewer than 10 images of a class.
        """
        notes = []
        for name, group in self.image_groups.items():
            source = "generated" if name == "generated" else f"{name} of the data set"
            small_classes = []
            for label, class_name in enumerate(self.class_names):
                n = int(np.sum(group.labels == label))
                if n < MIN_PER_CLASS:
                    raise ValueError(
                        f"{source}: {n} images of class {class_name!r}; give at least "
                        f"{MIN_PER_CLASS} of every class, preferably "
                        f"{MIN_TRUSTED_PER_CLASS} or more"
                    )
                if n < MIN_TRUSTED_PER_CLASS:
                    small_classes.append(f"{n} of {class_name}")
            if small_classes:
                notes.append(
                    f"{source}: only {', '.join(small_classes)}; comparisons with "
                    "this set have no FID, precision, recall, density, coverage and "
                    f"spacing, which need {MIN_TRUSTED_PER_CLASS} images of a class"
                )
        return notes
