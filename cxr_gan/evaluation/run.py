"""Evaluates a model, or images, against a data set: the content of both reports."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from cxr_gan.data.listing import ReadOptions
from cxr_gan.evaluation import (
    evaluator,
    image_input,
    image_sets,
    label_classifier_cache,
    pairs,
)
from cxr_gan.evaluation import (
    utility as utility_test,
)
from cxr_gan.evaluation.image_sets import MIN_PER_CLASS, ImageGroup
from cxr_gan.evaluation.inputs import (
    DEFAULT_OPTIONS,
    EvaluationInput,
    open_input,
    trained_on,
    training_set,
)
from cxr_gan.evaluation.membership import Target
from cxr_gan.evaluation.metrics import feature_spaces
from cxr_gan.evaluation.report import import_matplotlib, pictures, render
from cxr_gan.evaluation.results import POOLED, Estimates, to_rows
from cxr_gan.runtime import jax_config
from cxr_gan.storage import files
from cxr_gan.version import __version__

UNKNOWN_TRAINING = (
    "the training images of the generator are unknown; if they include val, the "
    "utility is overestimated"
)
UNKNOWN_MEMBERS = (
    "the training images of the generator are unknown; membership is tested as if they "
    "were all images of train"
)
NO_DISCRIMINATOR = (
    "the training state of the model was not found; membership is not tested with the "
    "discriminator"
)
METHOD = (
    "The real training images are split by patient into halves A and B. Generated "
    "images are compared with B. The real-data reference of a metric is its value for "
    "A in place of the generated images, which a perfect generator would reach; a "
    "metric and its reference use equally many images, n. The 95 % intervals resample "
    "patients rather than images. Those of feature distances draw half of the patients "
    "without replacement, because drawing with replacement duplicates images, which "
    "biases FID upward. On the paediatric data set, the encoder `cxr` was trained on "
    "half A and the label classifier on half B: use the comparisons with B for metrics "
    "in `cxr`."
)


@jax_config.pinned()
def evaluate(
    images: str | os.PathLike[str] | np.ndarray | None = None,
    labels: Sequence[int] | Sequence[str] | np.ndarray | None = None,
    *,
    dataset: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    spaces: str = "cxr,texture",
    utility: bool = False,
    class_pairs: bool = False,
    membership: bool = False,
    num: int = 2000,
    seed: int = 0,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> dict[str, Any]:
    """Compares generated images with a data set, as `python -m cxr_gan.evaluate` does.

    Args:
        images: images to evaluate: files, as in `image_input.read`, or an array, uint8
            [n, s, s] or [n, s, s, 1], or floats in [0, 1].
        labels: of an array of images: integers [n], indices into the classes of the
            data set, or n class names.
        dataset: real images, as in `data.load`.
        model: as in `cxr_gan.load`, instead of images.
        out: existing folder to which report.json and report.html are written.
        spaces: feature spaces of the distances, comma-separated.
        utility: whether classifiers are also trained on the images; takes minutes.
        class_pairs: whether images of a model are also compared with those of the same
            latents under the other classes.
        membership: whether membership inference is tested; see `membership`.
        num: number of images to sample from a model, equally many of each class.
        seed: of all random choices.
        options: how the data set is read.

    Returns:
        The content of report.json.

    Raises:
        OSError, ValueError, ImportError: the images, the data set or a feature space
            cannot be used, or do not fit each other; before the work where possible.
    """
    if out is not None:  # before the work: it may not be possible
        if not pathlib.Path(out).is_dir():
            raise FileNotFoundError(f"out={out} is not a folder; create it first")
        import_matplotlib()
    if class_pairs and model is None:
        raise ValueError(
            "pairs are images of one latent under each class; give --model=RUN, or "
            "leave out --pairs (class_pairs=True)"
        )
    opened = open_spaces(spaces)
    source = open_input(model, images, os.fspath(dataset), num, seed, options, labels)
    if POOLED in source.dataset.class_names:
        raise ValueError(f"a class is named {POOLED!r}, as the pooled rows; rename it")
    train = training_set(source) if utility else None
    real = image_sets.split_reference(source.dataset)
    target, notes = open_target(source, real) if membership else (None, [])
    classifier = label_classifier_cache.load_or_fit(real.train, len(real.class_names))
    result = evaluator.evaluate(
        source.images,
        source.labels,
        real,
        spaces=opened,
        classifier=classifier,
        seed=seed,
        target=target,
    )
    added = {}
    if train is not None:
        estimates, added["utility"] = measure_utility(source, train, real, seed)
        notes += [] if source.trained_on else [UNKNOWN_TRAINING]
        result = dataclasses.replace(result, estimates=result.estimates | estimates)
    result = dataclasses.replace(result, notes=result.notes + notes)
    draw = source.draw if class_pairs else None
    if draw is not None:
        regions = pairs.regions(source.images.shape[1], os.fspath(dataset))
        added["pairs"] = pairs.measure(draw, real, regions, classifier, seed)
    report = make_report(source, real, result, os.fspath(dataset), opened, seed) | added
    if out is not None:
        grids = pictures(source.images, source.labels, real, result)
        if draw is not None:
            grids |= pairs.pictures(draw, real.class_names, seed)
        html = render(report, grids)
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (pathlib.Path(out) / "report.json").write_text(text, encoding="utf-8")
        (pathlib.Path(out) / "report.html").write_text(html, encoding="utf-8")
    return report


def open_target(
    source: EvaluationInput, real: image_sets.ReferenceSplits
) -> tuple[Target, list[str]]:
    """What membership inference attacks, and notes on what is unknown of it.

    Raises:
        ValueError: as `trained_on`; the model was trained on too few images of half B;
            its training state is damaged.
    """
    of_half_b = trained_on(source)[real.rows][~real.in_a]
    labels = real.train.labels[~real.in_a][of_half_b]
    for label, name in enumerate(real.class_names):
        n = int(np.sum(labels == label))
        if n < MIN_PER_CLASS:
            raise ValueError(
                f"the model was trained on {n} images of {name} of half B; membership "
                f"needs {MIN_PER_CLASS}: leave out --membership (membership=True)"
            )
    if source.open_discriminator is None:
        return Target(of_half_b), [UNKNOWN_MEMBERS]
    try:
        return Target(of_half_b, *source.open_discriminator()), []
    except FileNotFoundError as error:
        logging.warning("%s: %s", NO_DISCRIMINATOR, error)  # names a folder
        return Target(of_half_b), [NO_DISCRIMINATOR]


def measure_utility(
    source: EvaluationInput,
    train: ImageGroup,
    real: image_sets.ReferenceSplits,
    seed: int,
) -> tuple[Estimates, dict[str, Any]]:
    """`utility.utility` of the images to evaluate."""
    # If training was limited to fewer images of one class than of another, generated
    # images are also added to the few images of that class.
    unequal = np.ptp(np.bincount(train.labels)) > 0
    return utility_test.utility(
        ImageGroup.from_generated(source.images, source.labels),
        train,
        ImageGroup.from_image_set(real.val),
        real.class_names,
        draw=source.draw if any(source.samples_per_class) and unequal else None,
        seed=seed,
    )


def open_spaces(spec: str) -> list[feature_spaces.FeatureSpace]:
    """The feature spaces named in a comma-separated list, such as "cxr,texture".

    Raises:
        ValueError, FileNotFoundError, ImportError: as `feature_spaces.open_space`; a
            name occurs twice.
    """
    spaces = [feature_spaces.open_space(name.strip()) for name in spec.split(",")]
    if len({space.name for space in spaces}) < len(spaces):
        raise ValueError(f"spaces={spec}: a name occurs twice; give each space once")
    return spaces


def make_report(
    source: EvaluationInput,
    real: image_sets.ReferenceSplits,
    result: evaluator.EvaluationResult,
    dataset: str,
    spaces: Sequence[feature_spaces.FeatureSpace],
    seed: int,
) -> dict[str, Any]:
    """Content of report.json; without times: equal inputs give equal reports."""
    notes = [*source.notes]
    ranges = image_input.compare_ranges(source.images, source.dataset.train.images)
    notes += [*([ranges] if ranges else []), *result.notes]

    def counts(label: np.ndarray) -> dict[str, int]:
        each = np.bincount(label, minlength=len(real.class_names)).tolist()
        return dict(zip(real.class_names, each, strict=True))

    content = source.images.tobytes() + source.labels.tobytes()
    origin = {**source.metadata, "sha256": hashlib.sha256(content).hexdigest()}
    halves = {"A": real.train.labels[real.in_a], "B": real.train.labels[~real.in_a]}
    return {
        "verdict": result.verdict,
        "faults": result.faults,
        "notes": notes,
        "images": {**origin, "counts": counts(source.labels)},
        "dataset": {
            "name": files.last_name(dataset),
            "identity": source.dataset.identity,
            "read": source.dataset.summary,
            "split_seed": source.split_seed,
            "duplicates_dropped": real.dropped,
            "counts": {
                name: counts(label)
                for name, label in {**halves, "val": real.val.labels}.items()
            },
        },
        "resolution": source.images.shape[1],
        "class_names": list(real.class_names),
        "pooled": POOLED,
        "seed": seed,
        "spaces": [space.name for space in spaces],
        "method": METHOD,
        "metrics": to_rows(result.estimates),
        "nearest_pairs": {
            view: [
                # Not the id: ids are names of files, which may name patients.
                {"generated": i, "train": int(real.rows[j]), "distance": distance}
                for i, j, distance in pairs
            ]
            for view, pairs in result.nearest_pairs.items()
        },
        "software": {"cxr_gan": __version__, "jax": jax.__version__},
    }
