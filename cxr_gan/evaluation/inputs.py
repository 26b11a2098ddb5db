"""Images to evaluate, from a model or from files, and the data set to compare with."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from cxr_gan import data
from cxr_gan.data.listing import ReadOptions
from cxr_gan.data.patients import keys_of
from cxr_gan.data.splits import select_subset
from cxr_gan.evaluation import image_input, image_sets
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.membership import Score
from cxr_gan.evaluation.utility.training_sets import Draw
from cxr_gan.models import pixel_range
from cxr_gan.sampling import arguments, sampler, trained_networks, training_images
from cxr_gan.storage import files

DEFAULT_OPTIONS = ReadOptions()
UNKNOWN_TRAINING_IMAGES = (
    "the model, or one that it started from, was trained on other images than this "
    "data set contains, and it is unknown on which: if val has some of them, they are "
    "not left out, and copies of the others are not detected"
)
SPLIT_SEED = 0  # of the held-out tenth, where no model states another one


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationInput:
    """The images to evaluate, what is known about their origin, and the data set."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    labels: np.ndarray  # int32 [n], indices into dataset.class_names
    dataset: data.Dataset  # of the same image size
    split_seed: int  # of the data set
    metadata: dict[str, Any]  # origin of the images, for report.json
    trained_on: str | None = None  # identity of the data set; None without a model
    samples_per_class: tuple[int, ...] = ()  # of its training; empty without a model
    draw: Draw | None = None  # samples more images; None without a model
    # The score of its discriminator, and its group size; None without a model.
    open_discriminator: Callable[[], tuple[Score, int]] | None = None
    notes: tuple[str, ...] = ()  # of how the images and the data set were read


def open_input(
    model: str | os.PathLike[str] | None,
    given: str | os.PathLike[str] | np.ndarray | None,
    dataset: str,
    num: int,
    seed: int,
    options: ReadOptions = DEFAULT_OPTIONS,
    labels: Any = None,
) -> EvaluationInput:
    """Takes images, or samples them from a model, and loads the data set.

    Args:
        model: as in `cxr_gan.load`; exactly one of `model` and `given` is not None.
        given: files, as in `image_input.read`, or an array, as in
            `image_input.from_arrays`.
        dataset: the real data set that the images will be compared with, as in
            `data.load`.
        num: number of images to sample from a model, equally many of each class.
        seed: of the sampled images.
        options: how the data set is read.
        labels: of an array of images.

    Raises:
        ValueError, OSError: neither or both of `model` and `given` are given; the one
            that is given or the data set cannot be used; their classes differ.
    """
    is_array = given is not None and not isinstance(given, str | os.PathLike)
    if labels is not None and not is_array:
        raise ValueError("labels are given without an array of images; leave them off")
    if model is not None and given is None:
        return _sample_model(os.fspath(model), dataset, num, seed, options)
    if given is None or model is not None:
        raise ValueError("give either --model=RUN or --images=FOLDER_OR_NPZ, not both")
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        _require_apart(path, dataset)
        read = image_input.read(path)
    else:
        path = "the given array"
        read = image_input.from_arrays(given, labels, path)
    images, classes, notes = read
    size = images.shape[1]
    real = data.load(dataset, size, split_seed=SPLIT_SEED, options=options)
    try:
        indices: np.ndarray = arguments.as_labels(classes, real.class_names)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the data set: {error}") from error
    metadata = {"from": "images", "path": files.last_name(path)}
    notes = tuple(f"images: {note}" for note in notes)
    return EvaluationInput(images, indices, real, SPLIT_SEED, metadata, notes=notes)


def _require_apart(folder: str, dataset: str) -> None:
    """Raises ValueError if one of the folders contains the other."""
    images_path = files.require_local_path(folder, "--images").resolve()
    dataset_path = files.expand_user(dataset.removeprefix("folder:"), "--dataset")
    dataset_path = dataset_path.resolve()
    if images_path.is_relative_to(dataset_path) or dataset_path.is_relative_to(
        images_path
    ):
        raise ValueError(
            f"--images={folder} and --dataset={dataset} are the same folder, or one is "
            "inside the other; give generated images: real ones would only be compared "
            "with themselves"
        )


def _sample_model(
    workdir: str, dataset: str, num: int, seed: int, options: ReadOptions
) -> EvaluationInput:
    params, meta = sampler.load_with_meta(workdir)
    size = params.config.resolution
    if size < image_input.MIN_SIZE:
        raise ValueError(
            f"--model={workdir} generates images of {size} px; at least "
            f"{image_input.MIN_SIZE} px are required"
        )

    def draw(labels: np.ndarray, seed: int) -> np.ndarray:
        return pixel_range.to_uint8(sampler.sample(params, labels, seed))

    config = meta["config"]
    split_seed = config["split_seed"]
    load = functools.partial(data.load, dataset, split_seed=split_seed, options=options)
    real = load(size)
    if params.class_names != real.class_names:
        raise ValueError(
            f"the model generates {', '.join(params.class_names)}; the data set has "
            f"{', '.join(real.class_names)}: give the data set the model was trained on"
        )
    notes: tuple[str, ...] = ()
    if meta.get("ancestors") or meta["dataset"]["identity"] != real.identity:
        real, notes = without_training_images(workdir, real, load)
    labels = np.arange(num, dtype=np.int32) % len(params.class_names)
    metadata = {
        "from": "model",
        "path": files.last_name(workdir),
        "model_hash": sampler.fingerprint(params),
        "step": meta["step"],
        "kimg": meta["kimg"],
        "class_names": list(params.class_names),
        "dataset": meta["dataset"] | {"name": files.last_name(meta["dataset"]["name"])},
        "samples_per_class": list(config["samples_per_class"]),
        "seed": config["seed"],
    }
    return EvaluationInput(
        draw(labels, seed),
        labels,
        real,
        split_seed,
        metadata,
        meta["dataset"]["identity"],
        tuple(config["samples_per_class"]),
        draw,
        functools.partial(trained_networks.open_discriminator, workdir, meta),
        notes,
    )


def without_training_images(
    model: str, real: data.Dataset, load: Callable[[int], data.Dataset]
) -> tuple[data.Dataset, tuple[str, ...]]:
    """Leaves the patients out of val that a model, or an ancestor, was trained on.

    Args:
        model: as in `cxr_gan.load`.
        real: the data set at the resolution of the model.
        load: loads the data set at the resolution of an ancestor, px.

    Returns:
        The data set, with its identity, and notes for the report.

    Raises:
        ValueError: a class of val has fewer than MIN_PER_CLASS images left.
    """
    try:
        known = training_images.read(model)
    except FileNotFoundError:
        return real, (UNKNOWN_TRAINING_IMAGES,)
    notes, seen = [], set[str]()  # patients
    keys = keys_of(real.val)
    for size, rows in known.items():
        try:
            same = real if size == real.val.images.shape[1] else load(size)
        except ValueError as error:  # a prepared set has one resolution
            logging.warning("the data set cannot be read at %d px: %s", size, error)
            notes.append(
                f"the images of {size} px that the model, or one that it started from, "
                "was trained on are not compared: the data set cannot be read at this "
                "size"
            )
            continue
        in_training = training_images.contains(known, same.val.images)
        seen |= set(itertools.compress(keys_of(same.val), in_training))
        both = same.train.images, same.val.images
        if others := training_images.count_others(rows, *both):
            notes.append(
                f"the model, or one that it started from, was trained on {others} "
                f"images of {size} px that this data set does not contain; copies of "
                "them are not detected"
            )
    if seen:
        is_new = np.array([key not in seen for key in keys])
        notes.append(
            "the model, or one that it started from, was trained on patients of val; "
            f"their {(~is_new).sum()} of {len(keys)} images are left out of val, and "
            "copies of them are not detected"
        )
        val = real.val.take(is_new)
        counts = val.counts(len(real.class_names)).tolist()
        if min(counts) < image_sets.MIN_PER_CLASS:
            raise ValueError(
                f"{notes[-1]}; val has {counts} other images of "
                f"{', '.join(real.class_names)}; give a data set with a val of at "
                f"least {image_sets.MIN_PER_CLASS} other images of each class"
            )
        real = dataclasses.replace(real, val=val)
    return real, tuple(notes)


def trained_on(source: EvaluationInput) -> np.ndarray:
    """Whether a model was trained on each image of train; all if that is unknown.

    Raises:
        ValueError: the model was trained on other images than those of the data set.
    """
    dataset = source.dataset
    if source.trained_on is None:
        return np.ones(len(dataset.train), bool)
    if source.trained_on != dataset.identity:
        raise ValueError(
            f"the model was trained on other images (sha256 {source.trained_on[:12]}) "
            f"than this data set contains ({dataset.identity[:12]}); utility and "
            "membership can be evaluated on its own training data only: give that data "
            "set"
        )
    selected = select_subset(
        dataset.train, len(dataset.class_names), source.samples_per_class
    )
    in_training = np.zeros(len(dataset.train), bool)
    in_training[np.concatenate(selected)] = True
    return in_training


def training_set(source: EvaluationInput) -> ImageGroup:
    """The images of `trained_on`.

    Raises:
        ValueError: as `trained_on`.
    """
    return ImageGroup.from_image_set(source.dataset.train.take(trained_on(source)))
