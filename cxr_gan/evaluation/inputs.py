"""The images to evaluate: sampled from a model, or read from files."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from cxr_gan import data
from cxr_gan.evaluation import image_input
from cxr_gan.evaluation.utility import ModelProvenance
from cxr_gan.evaluation.utility.training_sets import Draw
from cxr_gan.models import pixel_range
from cxr_gan.sampling import sampler

SPLIT_SEED = 0  # of the held-out tenth, where no model states another one


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationInput:
    """The images to evaluate and what is known about their origin."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    # Labels int32 [n]; or LabelledImages, whose labels depend on the class names.
    classes: image_input.LabelledImages | np.ndarray
    split_seed: int
    metadata: dict[str, Any]  # origin of the images, for report.json
    provenance: ModelProvenance | None = None  # training data; None if unknown
    draw: Draw | None = None  # samples more images; None without a model


def open_input(
    model: str | None, folder: str | None, dataset: str, num: int, seed: int
) -> EvaluationInput:
    """Samples images from a model, or reads them from files.

    Args:
        model: as in `cxr_gan.load`; exactly one of `model` and `folder` is not None.
        folder: as in `image_input.read`.
        dataset: the real data set that the images will be compared with.
        num: number of images to sample from a model, equally many of each class.
        seed: of the sampled images.

    Raises:
        ValueError, OSError: neither or both of `model` and `folder` are given, or the
            one that is given cannot be used.
    """
    if model is not None and folder is None:
        return _sample_model(model, num, seed)
    if folder is None or model is not None:
        raise ValueError("give either --model=RUN or --images=FOLDER_OR_NPZ, not both")
    images_path = pathlib.Path(folder).expanduser().resolve()
    dataset_path = pathlib.Path(dataset.removeprefix("folder:")).expanduser().resolve()
    if images_path.is_relative_to(dataset_path) or dataset_path.is_relative_to(
        images_path
    ):
        raise ValueError(
            f"--images={folder} and --dataset={dataset} are the same folder, or one is "
            "inside the other; give generated images: real ones would only be compared "
            "with themselves"
        )
    labelled = image_input.read(folder)
    metadata = {"from": "images", "path": folder}
    return EvaluationInput(labelled.images, labelled, SPLIT_SEED, metadata)


def _sample_model(workdir: str, num: int, seed: int) -> EvaluationInput:
    params, meta = sampler.load_with_meta(workdir)
    size = params.config.resolution
    if size < image_input.MIN_SIZE:
        raise ValueError(
            f"--model={workdir} generates images of {size} px; at least "
            f"{image_input.MIN_SIZE} px are required"
        )

    def draw(labels: np.ndarray, seed: int) -> np.ndarray:
        return pixel_range.to_uint8(sampler.sample(params, labels, seed))

    labels = np.arange(num, dtype=np.int32) % len(params.class_names)
    config = meta["config"]
    samples = tuple(config["samples_per_class"])
    provenance = ModelProvenance(meta["dataset"]["identity"], samples, config["seed"])
    metadata = {
        "from": "model",
        "path": workdir,
        "model_hash": sampler.fingerprint(params),
        "step": meta["step"],
        "kimg": meta["kimg"],
        "class_names": list(params.class_names),
        "dataset": meta["dataset"],
        "samples_per_class": list(samples),
        "seed": provenance.seed,
    }
    return EvaluationInput(
        draw(labels, seed), labels, config["split_seed"], metadata, provenance, draw
    )


def labels_of(source: EvaluationInput, dataset: data.Dataset) -> np.ndarray:
    """Labels of the images, as indices into `dataset.class_names`; int32 [n].

    Raises:
        ValueError: the classes of the images and of the data set differ.
    """
    if isinstance(source.classes, image_input.LabelledImages):
        return source.classes.labels(dataset.class_names)
    names = source.metadata["class_names"]
    if names != list(dataset.class_names):
        raise ValueError(
            f"the model generates {', '.join(names)}; the data set has "
            f"{', '.join(dataset.class_names)}: give the data set the model was "
            "trained on"
        )
    return source.classes
