"""What a generator changes with the class alone: images of one latent, compared.

Two images of one latent under two classes are a pair. For comparison stand random pairs
of generated images of one class. Real images have no pairs, but they set a limit: if
the images of both classes are distributed as the real ones, then the mean change of a
pixel in any pairing is at least the Wasserstein distance of its values in the two
classes (Kantorovich duality; Villani 2009, "Optimal Transport", section 5).
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation.image_sets import ReferenceSplits
from cxr_gan.evaluation.metrics import (
    confidence_intervals,
    cxr_encoder,
    label_classifier,
    ms_ssim,
)
from cxr_gan.evaluation.results import rounded
from cxr_gan.evaluation.utility.training_sets import Draw
from cxr_gan.sampling import class_pairs, pair_files

LATENTS = 500
DRAWS = 200  # bootstrap draws
PHANTOMS = 200  # whose lungs define the regions of phantoms
PHANTOM_SIZE = 64  # px at which they are rendered, at most
COLUMNS = 8  # of the picture
QUANTILES = 200  # levels at which two distributions are compared
LABELS_RIGHT = "both labels right"
CHANGE = "change"  # then the region


@dataclasses.dataclass(frozen=True)
class PairRow:
    """A metric of the pairs of two classes."""

    metric: str
    classes: str  # "NORMAL, PNEUMONIA"
    value: float  # mean over pairs
    low: float  # 95 % interval over latents
    high: float
    random: float | None = None  # mean over random pairs of one class
    least: float | None = None  # that faithful classes allow
    chance: float | None = None  # the same between halves of one class


def measure(
    draw: Draw,
    real: ReferenceSplits,
    regions: Mapping[str, np.ndarray],
    classifier: Any,
    seed: int,
) -> dict[str, Any]:
    """The pairs of `LATENTS` latents: the part "pairs" of report.json.

    Args:
        draw: (labels, seed) -> images, where a latent does not depend on its label.
        real: the real data set.
        regions: name -> bool [s, s].
        classifier: params of a label classifier trained on half B of `real`.
        seed: of latents, random pairs and intervals.
    """
    names = real.class_names
    images = [draw(np.full(LATENTS, k), seed) for k in range(len(names))]
    rows = [
        row
        for a, b in itertools.combinations(range(len(names)), 2)
        for row in _compare(images, (a, b), real, regions, classifier, seed)
    ]
    return {
        "latents": LATENTS,
        "rows": [rounded(dataclasses.asdict(row)) for row in rows],
    }


def regions(size: int, dataset: str) -> dict[str, np.ndarray]:
    """Name -> bool [s, s]: those of `class_pairs.regions`, and for phantoms two more.

    "lungs" are the pixels that are lung in each of PHANTOMS phantoms, "outside of
    lungs" those that are lung in none.
    """
    masks = class_pairs.regions(size)
    if dataset.split(":")[0] == "phantom":
        rendered = min(size, PHANTOM_SIZE)
        lungs = [renderer.render(0, i, rendered).lungs for i in range(PHANTOMS)]
        for name, mask in (
            ("lungs", np.all(lungs, 0)),
            ("outside of lungs", ~np.any(lungs, 0)),
        ):
            factor = size // rendered
            masks[name] = mask.repeat(factor, 0).repeat(factor, 1)
    return masks


def pictures(draw: Draw, names: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """{caption: uint8 [h, w]}: the first pairs; arguments as `measure`."""
    images = [draw(np.full(COLUMNS, k), seed) for k in range(len(names))]
    caption = "The same latents under each class, and each class minus the first"
    return {caption: pair_files.grid(np.stack(images, 1), names)}


def _compare(
    images: Sequence[np.ndarray],
    pair: tuple[int, int],
    real: ReferenceSplits,
    regions: Mapping[str, np.ndarray],
    classifier: Any,
    seed: int,
) -> list[PairRow]:
    """The rows of one pair of classes; images are uint8 [n, s, s, 1] of each class."""
    a, b = (images[label] for label in pair)
    joined = np.concatenate([a, b])
    count = len(a)
    # Random pairs of one class: half of them of either class.
    within = [ms_ssim.draw_pairs(count, seed, count // 2) for _ in pair]
    first = np.concatenate([within[0][0], within[1][0] + count])
    second = np.concatenate([within[0][1], within[1][1] + count])
    latents = np.arange(count)
    classes = ", ".join(real.class_names[label] for label in pair)

    def row(metric: str, values: np.ndarray, **others: float) -> PairRow:
        interval = confidence_intervals.bootstrap(
            lambda drawn: values[drawn].mean(), latents, draws=DRAWS, seed=seed
        )
        return PairRow(metric, classes, *interval.tolist(), **others)

    right = np.ones(count, bool)
    for label, each in zip(pair, (a, b), strict=True):
        right &= label_classifier.predict(classifier, each).argmax(1) == label
    share = confidence_intervals.share_interval(right, latents, draws=DRAWS, seed=seed)
    similar = functools.partial(ms_ssim.pair_similarities, joined)
    features = cxr_encoder.features(joined)

    def apart(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return np.linalg.norm(features[i] - features[j], axis=1)

    rows = [
        PairRow(LABELS_RIGHT, classes, float(right.mean()), *share),
        row(
            "MS-SSIM",
            similar(latents, latents + count),
            random=float(similar(first, second).mean()),
        ),
        row(
            "distance, cxr",
            apart(latents, latents + count),
            random=float(apart(first, second).mean()),
        ),
    ]
    least, chance = least_changes(real, pair)
    for name, region in regions.items():
        values = class_pairs.changes(a, b, region)
        random = class_pairs.changes(joined[first], joined[second], region)
        rows.append(
            row(
                f"{CHANGE}, {name}",
                values,
                random=float(random.mean()),
                least=float(least[region].mean()),
                chance=float(chance[region].mean()),
            )
        )
    return rows


def least_changes(
    real: ReferenceSplits, pair: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Least mean change of each pixel from one real class to the other.

    Returns:
        float64 [s, s] twice, of a range of 1: the Wasserstein distance between the two
        classes, and the mean of those between halves A and B of each class, which
        differ by chance.
    """
    labels, images = real.train.labels, real.train.images
    a, b = (images[labels == label] for label in pair)
    halves = [
        [images[(labels == label) & half] for half in (real.in_a, ~real.in_a)]
        for label in pair
    ]
    return wasserstein(a, b), np.mean([wasserstein(*x) for x in halves], 0)


def wasserstein(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance of the values of each pixel, of a range of 1.

    The mean absolute difference of the quantile functions, at QUANTILES levels.

    Args:
        a: uint8 [n, s, s, 1].
        b: uint8 [m, s, s, 1].

    Returns:
        float64 [s, s].
    """
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    of_a, of_b = (np.quantile(x[..., 0], levels, axis=0) / 255 for x in (a, b))
    return np.abs(of_a - of_b).mean(0)
