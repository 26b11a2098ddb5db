"""Training images of a generator, so that comparisons use exactly the same images."""

import dataclasses

import numpy as np

from cxr_gan.data import Dataset
from cxr_gan.evaluation.image_sets import ImageGroup


@dataclasses.dataclass(frozen=True)
class ModelProvenance:
    """Training data of a generator, from its checkpoint."""

    identity: str  # of the data set
    samples_per_class: tuple[int, ...]  # config.samples_per_class
    seed: int  # config.seed


def training_set(
    dataset: Dataset,
    provenance: ModelProvenance | None,
    expected: tuple[int, ...] | None = None,
) -> ImageGroup:
    """The images a generator was trained on; all of train if `provenance` is None.

    Args:
        dataset: the data set of the evaluation.
        provenance: of the generator.
        expected: samples_per_class it must have been trained with; None for any.

    Raises:
        ValueError: the generator was trained on other images.
    """
    if provenance is None:
        return ImageGroup.from_image_set(dataset.train)
    if provenance.identity != dataset.identity:
        raise ValueError(
            f"the model was trained on other images (sha256 "
            f"{provenance.identity[:12]}) than this data set contains "
            f"({dataset.identity[:12]}); utility can be evaluated on its own training "
            "data only: give that data set"
        )
    if expected is not None and provenance.samples_per_class != expected:
        raise ValueError(
            f"the model was trained with samples_per_class="
            f"{provenance.samples_per_class}, not {expected}, so its training images "
            "are not those of the variants it is compared with; train a model with "
            f"samples_per_class={expected}"
        )
    from cxr_gan.data import pipeline  # imports TensorFlow, which is slow

    selected = pipeline.select_subset(
        dataset.train, len(dataset.class_names), provenance.samples_per_class
    )
    in_training = np.zeros(len(dataset.train), bool)
    in_training[np.concatenate(selected)] = True
    return ImageGroup.from_image_set(dataset.train.take(in_training))


def has_rare_class(provenance: ModelProvenance | None, train: ImageGroup) -> bool:
    """Whether training was limited to fewer images of one class than of another."""
    unequal = bool(np.ptp(np.bincount(train.labels)))
    return provenance is not None and any(provenance.samples_per_class) and unequal
