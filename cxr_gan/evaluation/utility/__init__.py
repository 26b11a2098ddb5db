"""Are generated images of use? Classifiers trained on them, tested on real patients.

Two questions: can they stand in for real images; and, where a class has few, do they
help more than what costs nothing? What they are compared with is the best that was
found without them, so that a generator has to earn its place.

Pure: arrays in, figures out. Fitting takes a core some ten seconds a classifier.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm

from cxr_gan.evaluation.sides import Side
from cxr_gan.evaluation.utility import paired
from cxr_gan.evaluation.utility.arms import (
    GENERATED,
    REAL,
    VIEWS,
    WHOLE,
    Arm,
    Draw,
    alone,
    few_arms,
)
from cxr_gan.evaluation.utility.cards import Card, has_few, training_set
from cxr_gan.evaluation.utility.findings import (
    ADDED,
    IN_PLACE,
    Comparison,
    Line,
    Utility,
)
from cxr_gan.metrics import fidelity

__all__ = ["Card", "Utility", "has_few", "training_set", "utility"]

SEEDS = 5
STEPS = 300  # of 32 images, of every classifier


def utility(
    generated: Side,
    seen: Side,
    val: Side,
    *,
    draw: Draw | None,
    seed: int,
    seeds: int = SEEDS,
    steps: int = STEPS,
) -> Utility:
    """Trains classifiers with and without generated images, and compares them on val.

    Args:
        generated: images to stand in for real ones, of every class.
        seen: the real images the generator was trained on.
        val: whom all are tested on.
        draw: of the generator, where `seen` has few of a class and that is to be
            mended; None for the first question alone.
        seed: of everything.
        seeds: classifiers for each arm.
        steps: of each.

    Raises:
        ValueError: as `fidelity.fit`, `paired.draw`; val has not every class.
    """
    n = min(np.bincount(side.labels).min() for side in (generated, seen))
    in_place = {REAL: alone(seen, n), GENERATED: alone(generated, n)}
    plan = [(IN_PLACE, view, in_place) for view in VIEWS]
    if draw is not None:
        plan.append((ADDED, WHOLE, few_arms(seen, draw)))
    own = [(seed * seeds + k) % 2**32 for k in range(seeds)]
    draws = paired.draw(val.labels, val.patients, seeds, seed)
    fits = len(own) * sum(len(arms) for _, _, arms in plan)
    with tqdm.tqdm(total=fits, desc="Utility", disable=None, delay=2) as bar:
        comparisons = []
        for question, view, arms in plan:
            taught = _teach(arms, view, val, own, steps)
            odds: dict[str, Any] = {}
            counts: dict[str, tuple[int, ...]] = {}
            for arm, count, of in taught:
                odds.setdefault(arm, []).append(of)
                counts[arm] = count
                bar.update()
            aurocs = {
                arm: paired.mean_auroc(np.stack(of), val.labels, draws)
                for arm, of in odds.items()
            }
            comparisons.append(_compare(question, view, aurocs, counts))
    return Utility(tuple(comparisons), len(val), seed, seeds, steps)


def _teach(
    arms: dict[str, Arm], view: str, val: Side, seeds: list[int], steps: int
) -> Iterator[tuple[str, tuple[int, ...], np.ndarray]]:
    """Of each arm and seed: name, images of each class, log odds [n, K] of val."""
    num_classes = int(val.labels.max()) + 1
    show = VIEWS[view]
    tested = show(val.images)
    for (name, arm), seed in itertools.product(arms.items(), seeds):
        lesson = arm(seed)
        judge = fidelity.fit(
            show(lesson.images),
            lesson.labels,
            num_classes,
            seed,
            steps=steps,
            balanced=False,
            class_weights=lesson.class_weights,
        )
        chances = fidelity.classify(judge, tested).astype(np.float64) + 1e-30
        others = chances.sum(1, keepdims=True) - chances + 1e-30
        yield name, tuple(lesson.counts(num_classes)), np.log(chances / others)


def _compare(
    question: str,
    view: str,
    aurocs: dict[str, np.ndarray],
    counts: dict[str, tuple[int, ...]],
) -> Comparison:
    """Against the best arm without generated images, by its mean on val."""
    without = [arm for arm in aurocs if arm != GENERATED]
    best = max(without, key=lambda arm: aurocs[arm][0])
    lines = []
    for arm, values in aurocs.items():
        difference = None if arm == best else paired.estimate(values - aurocs[best])
        lines.append(Line(arm, counts[arm], paired.estimate(values), difference))
    return Comparison(question, view, best, tuple(lines))
