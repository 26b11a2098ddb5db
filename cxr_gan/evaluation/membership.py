"""Measures whether training patients can be distinguished: membership inference.

An attacker has images of patients and wants to know which of them the generator was
trained on. Each attack gives every image a score, which is larger for images that it
classifies as training images. It is tested on half B of the training patients and on
`val`, which has other patients:

- `cxr`, `pixels`: minus the distance to the nearest generated image (Chen et al. 2020,
  "GAN-Leaks: A Taxonomy of Membership Inference Attacks against Generative Models",
  section 4.2). The reference is the same attack with half A in place of the generated
  images. Half A shows no patient of B or val, so it can only find how B and val differ.
- `discriminator`: its score (Hayes et al. 2019, "LOGAN: Membership Inference Attacks
  Against Generative Models", section 4.2), if the training state is at hand. The
  reference is chance.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from cxr_gan.evaluation.image_sets import EvaluationContext, ImageGroup
from cxr_gan.evaluation.memorization import VIEWS, vectors
from cxr_gan.evaluation.results import POOLED, Estimate, Estimates, MetricKey
from cxr_gan.evaluation.utility import auroc

SETS, REFERENCE_SETS = "generated: B~val", "A: B~val"
FALSE_ALARMS = 0.01  # largest share of val that is classified as training images
GROUPINGS = 4  # random groups in which D scores each image

Score = Callable[[np.ndarray], np.ndarray]  # uint8 [n, s, s, 1] -> float [n]


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """The model that is attacked, apart from its generated images."""

    trained_on: np.ndarray  # bool [n], whether on each image of half B
    discriminator: Score | None = None  # of whole groups; see `discriminator_scores`
    group_size: int = 0  # of the discriminator


def membership(context: EvaluationContext, target: Target) -> Estimates:
    """AUROC of each attack, and share of B found at 1 % false alarms or fewer.

    Scores are compared within each class; the pooled values are means over classes.
    Intervals resample the patients of B and val.

    Args:
        context: the sets of images.
        target: the model that is attacked.

    Raises:
        ValueError: a class has no images, or one patient, in B or val.
    """
    groups, trained_on = context.image_groups, target.trained_on
    members, others = groups["B"], groups["val"]
    labels = np.concatenate([members.labels[trained_on], others.labels])
    patients = np.concatenate([members.patients[trained_on], others.patients])
    is_member = np.arange(len(labels)) < trained_on.sum()
    strata = 2 * labels + is_member
    weights = auroc.draw_bootstrap(strata, patients, 2, context.seed).images

    of_class = [labels == label for label in range(len(context.class_names))]
    counts = [
        min(int(is_member[rows].sum()), int((~is_member)[rows].sum()))
        for rows in of_class
    ]

    def estimates(space: str, scores: np.ndarray, sets: str) -> Estimates:
        found: Estimates = {}
        for metric, measure in METRICS.items():
            by_class = [
                measure(scores[rows], is_member[rows], weights[:, rows])
                for rows in of_class
            ]
            values = dict(zip(context.class_names, by_class, strict=True))
            values[POOLED] = np.mean(by_class, 0)
            for name, n in zip(values, [*counts, sum(counts)], strict=True):
                key = MetricKey(metric, space, name, sets)
                found[key] = _estimate(values[name], n, context.seed)
        return found

    result: Estimates = {}
    n = context.min_count(range(len(context.class_names)), ("generated", "A"))
    for view, search in VIEWS.items():
        x = vectors(context, view)
        attacked = np.concatenate([x["B"][trained_on], x["val"]])
        for name, sets in (("generated", SETS), ("A", REFERENCE_SETS)):
            rows = context.select(name, range(len(context.class_names)), n)
            distance = search(attacked, x[name][rows]).distance
            result |= estimates(view, -distance, sets)
    if target.discriminator is not None:
        images = np.concatenate([members.images[trained_on], others.images])
        scores = discriminator_scores(
            target.discriminator,
            ImageGroup(images, labels, patients),
            target.group_size,
            context.seed,
        )
        result |= estimates("discriminator", scores, SETS)
        by_chance = [
            found_by_chance(int((~is_member)[rows].sum())) for rows in of_class
        ]
        found = dict(zip(context.class_names, by_chance, strict=True))
        for name, share in (found | {POOLED: float(np.mean(by_chance))}).items():
            for metric, value in zip(METRICS, (0.5, share), strict=True):
                key = MetricKey(metric, "discriminator", name, SETS)
                reference = result[key]._replace(value=value, low=value, high=value)
                result[key._replace(sets=REFERENCE_SETS)] = reference
    return result


def discriminator_scores(
    score: Score, images: ImageGroup, group_size: int, seed: int
) -> np.ndarray:
    """Mean score of each image over GROUPINGS random groups or more; float64 [n].

    A discriminator compares the images of a group, so that a score depends on them. As
    in training, a group has equally many images of each class, interleaved.

    Args:
        score: scores of images whose number is a multiple of group_size.
        images: of every class.
        group_size: images of a group.
        seed: of the groups.
    """
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(images.labels == c) for c in np.unique(images.labels)]
    per_class = group_size // len(classes)
    length = -(-max(map(len, classes)) // per_class) * per_class
    total, count = np.zeros((2, len(images)))
    for _ in range(GROUPINGS):
        rows = np.stack([np.resize(rng.permutation(c), length) for c in classes], 1)
        rows = rows.ravel()
        np.add.at(total, rows, score(images.images[rows]))
        np.add.at(count, rows, 1)
    return total / count


def found_at_false_alarms(
    scores: np.ndarray, is_member: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Share of members above the lowest limit that at most 1 % of the others exceed.

    Args:
        scores: float [n].
        is_member: bool [n].
        weights: non-negative, [d, n]: multiplicity of each image in each of d draws.

    Returns:
        float64 [d].
    """
    order = np.argsort(-scores[~is_member], kind="stable")
    others, weight = scores[~is_member][order], weights[:, ~is_member][:, order]
    share = np.cumsum(weight, 1) / weight.sum(1, keepdims=True)
    limit = others[(share > FALSE_ALARMS).argmax(1)]
    found = scores[is_member] > limit[:, None]
    weight = weights[:, is_member]
    return np.asarray((weight * found).sum(1) / weight.sum(1))


def found_by_chance(num_others: int) -> float:
    """Mean of `found_at_false_alarms` if members and others have equal distributions.

    With k = 1 % of m others, rounded down, the limit is the score of the k + 1 st. Of
    m + 1 equal scores, each is as likely as any other to be among the k + 1 largest.
    """
    return (int(FALSE_ALARMS * num_others) + 1) / (num_others + 1)


METRICS = {
    "membership_auroc": auroc.auroc,
    "membership_found": found_at_false_alarms,
}


def _estimate(values: np.ndarray, n: int, seed: int) -> Estimate:
    """From float64 [1 + draws]: the value of all images, then of the draws."""
    estimate = auroc.estimate(values)
    return Estimate(estimate.value, estimate.low, estimate.high, n, seed)
