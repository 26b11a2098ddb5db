"""Whose images an evaluation is of: a model's, which are drawn, or anybody's, read."""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from cxr_gan import data, given, images, sampling
from cxr_gan.evaluation.utility import Card
from cxr_gan.evaluation.utility.arms import Draw

SPLIT_SEED = 0  # of the held-out tenth, where no run says another


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """Whose images they are, and what is known of them."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    classes: given.Given | np.ndarray  # what knows the labels, or they: int32 [n]
    split_seed: int
    about: dict[str, Any]  # for JSON
    card: Card | None = None  # what the model was trained on; None where none is known
    draw: Draw | None = None  # more images; None where there is no model


def subject_of(
    model: str | None, folder: str | None, dataset: str, num: int, seed: int
) -> Subject:
    """Draws from the model, or reads the images.

    Args:
        model: as `sampling.load`; either it or `folder` is None.
        folder: as `given.read`.
        dataset: what the images will be compared with.
        num: how many to draw from a model, all classes equally.
        seed: of these.

    Raises:
        ValueError, OSError: neither or both are given, or one cannot be used.
    """
    if model is not None and folder is None:
        return _of_model(model, num, seed)
    if folder is None or model is not None:
        raise ValueError("give either --model=RUN or --images=FOLDER_OR_NPZ")
    here = pathlib.Path(folder).expanduser().resolve()
    there = pathlib.Path(dataset.removeprefix("folder:")).expanduser().resolve()
    if here == there or there in here.parents or here in there.parents:
        raise ValueError(
            f"--images={folder} and --dataset={dataset} are one folder; "
            "give generated images: real ones would only be compared with themselves"
        )
    read = given.read(folder)
    about = {"from": "images", "path": folder}
    return Subject(read.images, read, SPLIT_SEED, about)


def _of_model(workdir: str, num: int, seed: int) -> Subject:
    params, meta = sampling.load_with_meta(workdir)
    size = params.spec.resolution
    if size < given.SMALLEST:
        raise ValueError(
            f"--model={workdir} draws images of {size} px; at least {given.SMALLEST} "
            "are needed"
        )
    labels = np.arange(num, dtype=np.int32) % len(params.class_names)
    draw = functools.partial(_draw, params)
    config = meta["config"]
    samples = tuple(config["samples_per_class"])
    card = Card(meta["dataset"]["identity"], samples, config["seed"])
    about = {
        "from": "model",
        "path": workdir,
        "model_hash": sampling.fingerprint(params),
        "step": meta["step"],
        "kimg": meta["kimg"],
        "class_names": list(params.class_names),
        "dataset": meta["dataset"],
        "samples_per_class": list(samples),
        "seed": card.seed,
    }
    return Subject(draw(labels, seed), labels, config["split_seed"], about, card, draw)


def _draw(
    params: sampling.GeneratorParams, labels: np.ndarray, seed: int
) -> np.ndarray:
    """int32 [n] -> uint8 [n, s, s, 1]."""
    return images.to_uint8(sampling.sample(params, labels, seed))


def labels_of(subject: Subject, dataset: data.Dataset) -> np.ndarray:
    """int32 [n], as the data set counts its classes.

    Raises:
        ValueError: classes of images and data set are not the same.
    """
    if isinstance(subject.classes, given.Given):
        return subject.classes.labels(dataset.class_names)
    names = subject.about["class_names"]
    if names != list(dataset.class_names):
        raise ValueError(
            f"the model draws {', '.join(names)}; the data set has "
            f"{', '.join(dataset.class_names)}: give the one it was trained on"
        )
    return subject.classes
