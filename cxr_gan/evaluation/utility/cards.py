"""Which images a generator has seen, so that it is compared with who saw the same."""

import dataclasses

import numpy as np

from cxr_gan.data import Dataset
from cxr_gan.evaluation.sides import Side


@dataclasses.dataclass(frozen=True)
class Card:
    """What a generator was trained on, as its checkpoint tells."""

    identity: str  # of the data set
    samples_per_class: tuple[int, ...]  # as in its config
    seed: int  # of its training


def training_set(
    dataset: Dataset, card: Card | None, expected: tuple[int, ...] | None = None
) -> Side:
    """The very images a generator was trained on; all of train where no card says.

    Args:
        dataset: what it is evaluated against.
        card: of the generator.
        expected: samples_per_class it must have been trained with; None for any.

    Raises:
        ValueError: it was trained on other images.
    """
    if card is None:
        return Side.of_real(dataset.train)
    if card.identity != dataset.identity:
        raise ValueError(
            f"the model's card lists other training images (sha256 "
            f"{card.identity[:12]}) than the data set holds ({dataset.identity[:12]}); "
            "its utility can be told for its own data alone: give that"
        )
    if expected is not None and card.samples_per_class != expected:
        raise ValueError(
            f"the model's card lists samples_per_class={card.samples_per_class}, not "
            f"{expected}: it has seen other images than the arms it is compared with; "
            "train one on exactly these"
        )
    from cxr_gan.data import pipeline  # TensorFlow takes a while

    chosen = pipeline.members(
        dataset.train, len(dataset.class_names), card.samples_per_class
    )
    which = np.zeros(len(dataset.train), bool)
    which[np.concatenate(chosen)] = True
    return Side.of_real(dataset.train.take(which))


def has_few(card: Card | None, seen: Side) -> bool:
    """Whether the generator was kept to few images of a class, but not of all."""
    unequal = bool(np.ptp(np.bincount(seen.labels)))
    return card is not None and any(card.samples_per_class) and unequal
