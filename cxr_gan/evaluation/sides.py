"""The sets of images that are compared: generated ones, and the parts of the real."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from cxr_gan.data import Dataset, ImageSet, splits
from cxr_gan.data.halves import halves
from cxr_gan.evaluation.figures import POOLED
from cxr_gan.metrics import fidelity
from cxr_gan.metrics.features import FeatureSpace

LEAST = 10  # images of a class, in every set; with fewer there is nothing to say
LEAST_TRUSTED = 50  # with fewer, no FID and no precision to coverage


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """One set of images, as it is compared."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    labels: np.ndarray  # int [n]
    patients: np.ndarray  # str [n]; images of one are not independent

    @classmethod
    def of_real(cls, images: ImageSet) -> "Side":
        """Patients are as the images' names tell; else each image is its own."""
        patients = [str(splits.patient_of(name) or name) for name in images.ids]
        return cls(images.images, images.labels, np.array(patients, np.str_))

    @classmethod
    def of_generated(cls, images: np.ndarray, labels: np.ndarray) -> "Side":
        """Each image is a group of its own."""
        own = [f"generated/{index}" for index in range(len(images))]
        return cls(images, labels, np.array(own, np.str_))

    def __len__(self) -> int:
        return len(self.images)

    def pick(self, labels: Sequence[int], n: int, seed: int) -> np.ndarray:
        """Indices of n images of each label, drawn by seed; a larger n only adds.

        Raises:
            ValueError: if there are fewer.
        """
        lots = []
        for label in labels:
            members = np.flatnonzero(self.labels == label)
            if len(members) < n:
                raise ValueError(f"{len(members)} images of label {label}, not {n}")
            lots.append(np.random.default_rng([seed, label]).permutation(members)[:n])
        return np.concatenate(lots)


@dataclasses.dataclass(frozen=True, eq=False)
class Real:
    """A data set, divided for judging, every image in it once."""

    train: ImageSet  # half A, then half B, of the patients of train
    val: ImageSet
    in_a: np.ndarray  # bool [n], of train
    class_names: tuple[str, ...]
    dropped: int  # images that were, to the bit, another of the set

    def sides(self) -> dict[str, Side]:
        """A, B and val."""
        parts = self.train.take(self.in_a), self.train.take(~self.in_a), self.val
        return {
            name: Side.of_real(part)
            for name, part in zip(("A", "B", "val"), parts, strict=True)
        }


def divide(dataset: Dataset) -> Real:
    """Drops exact duplicates, the later one, val's after train's; halves by patient."""
    whole = dataset.train.join(dataset.val)
    first: dict[bytes, int] = {}
    for index, image in enumerate(whole.images):
        first.setdefault(image.tobytes(), index)
    kept = np.zeros(len(whole), bool)
    kept[list(first.values())] = True
    is_train = np.arange(len(whole)) < len(dataset.train)
    train, val = whole.take(kept & is_train), whole.take(kept & ~is_train)
    in_a = halves(train.ids)
    train = train.take(in_a).join(train.take(~in_a))
    dropped = int(np.sum(~kept))
    return Real(train, val, np.sort(in_a)[::-1], dataset.class_names, dropped)


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """All sets of an evaluation, and how they are seen."""

    sides: dict[str, Side]  # generated, A, B, val
    class_names: tuple[str, ...]
    seed: int  # of every choice
    spaces: dict[str, FeatureSpace]
    judge: fidelity.Judge  # of classes; taught on B
    _known: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def features(self, space: str) -> dict[str, np.ndarray]:
        """Of each set, float [n, d]; read off the images once."""
        if space not in self._known:
            extract = self.spaces[space].extract
            self._known[space] = {
                name: extract(side.images) for name, side in self.sides.items()
            }
        return self._known[space]

    @functools.cached_property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Each class by itself, then all: name -> labels."""
        alone = {name: (label,) for label, name in enumerate(self.class_names)}
        return {**alone, POOLED: tuple(range(len(self.class_names)))}

    def least(self, labels: Sequence[int], names: Sequence[str]) -> int:
        """Images of each label that all the named sets have."""
        return min(
            int(np.sum(self.sides[name].labels == label))
            for label in labels
            for name in names
        )

    def pick(self, name: str, labels: Sequence[int], n: int) -> np.ndarray:
        """As `Side.pick`."""
        return self.sides[name].pick(labels, n, self.seed)

    def check(self) -> list[str]:
        """Warnings of sets too small to be trusted.

        Raises:
            ValueError: a set is too small for anything.
        """
        notes = []
        for name, side in self.sides.items():
            of = "generated" if name == "generated" else f"{name} of the data set"
            few = []
            for label, class_name in enumerate(self.class_names):
                n = int(np.sum(side.labels == label))
                if n < LEAST:
                    raise ValueError(
                        f"{of}: {n} images of class {class_name!r}; give at least "
                        f"{LEAST} of every class, better {LEAST_TRUSTED} and more"
                    )
                if n < LEAST_TRUSTED:
                    few.append(f"{n} of {class_name}")
            if few:
                notes.append(
                    f"{of}: only {', '.join(few)}; comparisons of fewer than "
                    f"{LEAST_TRUSTED} images of a class have neither FID nor precision "
                    "to coverage, and no verdict rests on these"
                )
        return notes
