"""Utility of generated images: classifiers trained on them, tested on real patients.

Three questions: can generated images replace real images; do they help a classifier
that is then trained on few real images; and, where a class has few real images, do they
help more than methods that need no generator? The baseline is the best variant without
generated images, so a generator must outperform it to be useful.

Pure functions of arrays. Training a classifier takes about ten seconds on one core.
"""

from typing import Any

import numpy as np
import tqdm

from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.metrics import label_classifier
from cxr_gan.evaluation.results import Estimates
from cxr_gan.evaluation.utility import auroc, results
from cxr_gan.evaluation.utility.training_sets import (
    GENERATED,
    REAL,
    VIEWS,
    WHOLE,
    Draw,
    TrainingSet,
    balanced_subset,
    few_image_variants,
    pretraining_variants,
)

SEEDS = 5
STEPS = 300  # of 32 images, for every classifier
FEW = (25, 100, 250)  # real images of each class, after generated ones


def utility(
    generated: ImageGroup,
    train: ImageGroup,
    val: ImageGroup,
    class_names: tuple[str, ...],
    *,
    draw: Draw | None,
    seed: int,
    seeds: int = SEEDS,
    steps: int = STEPS,
) -> tuple[Estimates, dict[str, Any]]:
    """Trains classifiers with and without generated images and compares them on val.

    Args:
        generated: images in place of real images, of every class.
        train: the real images the generator was trained on.
        val: real images of other patients, on which all classifiers are tested.
        class_names: index = label.
        draw: samples more images from the generator, to fill up the rare class of
            `train`; None to leave out the last question.
        seed: determines all random choices.
        seeds: number of classifiers for each variant.
        steps: training steps of each classifier.

    Returns:
        The estimates, and the content of report.json["utility"].

    Raises:
        ValueError: as `label_classifier.fit` and `auroc.draw_bootstrap`; a class does
            not occur in val.
    """
    n = min(np.bincount(group.labels).min() for group in (generated, train))
    replacement = {
        REAL: balanced_subset(train, n),
        GENERATED: balanced_subset(generated, n),
    }
    plan = [(results.IN_PLACE, view, view, replacement) for view in VIEWS]
    smallest_class = np.bincount(train.labels).min()
    for few in FEW:
        if few <= smallest_class:
            variants = pretraining_variants(generated, train, few)
            plan.append((results.BEFORE, f"{few} of each class", WHOLE, variants))
    if draw is not None:
        plan.append((results.ADDED, WHOLE, WHOLE, few_image_variants(train, draw)))
    classifier_seeds = [(seed * seeds + k) % 2**32 for k in range(seeds)]
    weights = auroc.draw_bootstrap(val.labels, val.patients, seeds, seed)
    total = seeds * sum(len(variants) for *_, variants in plan)
    estimates: Estimates = {}
    comparisons = []
    with tqdm.tqdm(total=total, desc="Utility", disable=None, delay=2) as bar:
        for question, title, view, variants in plan:
            aurocs, counts = {}, {}
            for name, variant in variants.items():
                log_odds = []
                for classifier_seed in classifier_seeds:
                    training = variant(classifier_seed)
                    log_odds.append(
                        _log_odds(training, view, val, classifier_seed, steps)
                    )
                    bar.update()
                sizes = np.bincount(training.labels, minlength=len(class_names))
                counts[name] = dict(zip(class_names, sizes.tolist(), strict=True))
                aurocs[name] = auroc.mean_auroc(np.stack(log_odds), val.labels, weights)
            estimates |= results.estimates_of(question, title, aurocs, len(val), seed)
            comparisons.append(results.comparison(question, title, aurocs, counts))
    return estimates, {
        "method": results.METHOD.format(seeds=seeds, steps=steps),
        **{"seeds": seeds, "steps": steps, "images_of_val": len(val)},
        "comparisons": comparisons,
    }


def _log_odds(
    training: TrainingSet, view: str, val: ImageGroup, seed: int, steps: int
) -> np.ndarray:
    """Trains a classifier; its log odds of each class for the images of val, [n, K]."""
    apply_view = VIEWS[view]
    stages = [(steps, training)]
    if training.first is not None:
        half = steps // 2
        stages = [(half, training.first), (steps - half, training)]
    classifier = None
    for stage_steps, stage in stages:
        classifier = label_classifier.fit(
            apply_view(stage.images),
            stage.labels,
            int(val.labels.max()) + 1,
            seed,
            steps=stage_steps,
            balanced=False,
            class_weights=stage.class_weights,
            start=classifier,
        )
    probabilities = label_classifier.predict(classifier, apply_view(val.images))
    probabilities = probabilities.astype(np.float64) + 1e-30
    others = probabilities.sum(1, keepdims=True) - probabilities + 1e-30
    return np.log(probabilities / others)
