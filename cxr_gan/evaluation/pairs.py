"""Measures how much a generated image changes with its class, for the same latent.

Two images of one latent under two classes are a pair. They are compared with random
pairs of generated images of one class. Real images have no pairs, but they set a limit:
if the images of both classes are distributed as the real ones, then the mean change of
a pixel is at least the Wasserstein distance of its values in the two classes, which is
the least mean change of all pairings (Villani 2009, "Optimal Transport", definition
6.1). Its estimate from samples is larger by chance; halves of one class show by how
much.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
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
    least: float | None = None  # lower bound, if the classes are as the real ones
    chance: float | None = None  # the same between halves of one class


@dataclasses.dataclass(frozen=True, eq=False)
class ClassImages:
    """Generated images of one class, for the latents of all classes."""

    label: int
    images: np.ndarray  # uint8 [n, s, s, 1]
    features: np.ndarray  # float32 [n, d], of the encoder `cxr`
    right: np.ndarray  # bool [n], whether the classifier predicts the label
    random: tuple[np.ndarray, np.ndarray]  # indices of random pairs, int64 [m] each
    # Quantiles of each pixel of the real images of halves A and B, float64 [q, s, s].
    quantiles: tuple[np.ndarray, np.ndarray]


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
    classes = []
    for label in range(len(real.class_names)):
        images = draw(np.full(LATENTS, label), seed)
        halves = (
            real.train.images[(real.train.labels == label) & half]
            for half in (real.in_a, ~real.in_a)
        )
        a, b = map(pixel_quantiles, halves)
        classes.append(
            ClassImages(
                label=label,
                images=images,
                features=cxr_encoder.features(images),
                right=label_classifier.predict(classifier, images).argmax(1) == label,
                random=ms_ssim.draw_pairs(LATENTS, seed + label, LATENTS // 2),
                quantiles=(a, b),
            )
        )
    rows = [
        row
        for a, b in itertools.combinations(classes, 2)
        for row in _compare(a, b, real.class_names, regions, seed)
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
    a: ClassImages,
    b: ClassImages,
    names: Sequence[str],
    regions: Mapping[str, np.ndarray],
    seed: int,
) -> list[PairRow]:
    """The rows of one pair of classes."""
    latents = np.arange(len(a.images))
    classes = ", ".join(names[x.label] for x in (a, b))

    def row(metric: str, values: np.ndarray, **others: float) -> PairRow:
        interval = confidence_intervals.bootstrap(
            lambda drawn: values[drawn].mean(), latents, draws=DRAWS, seed=seed
        )
        return PairRow(metric, classes, *interval.tolist(), **others)

    def within(compare: Callable[..., np.ndarray], key: str) -> float:
        """Mean of a comparison over random pairs, half of them from each class."""
        values = [
            compare(*(getattr(x, key)[rows] for rows in x.random)).mean()
            for x in (a, b)
        ]
        return float(np.mean(values))

    right = a.right & b.right
    share = confidence_intervals.share_interval(right, latents, draws=DRAWS, seed=seed)
    rows = [
        PairRow(LABELS_RIGHT, classes, float(right.mean()), *share),
        row(
            "MS-SSIM",
            _similarity(a.images, b.images),
            random=within(_similarity, "images"),
        ),
        row(
            "distance, cxr",
            _distance(a.features, b.features),
            random=within(_distance, "features"),
        ),
    ]
    least = least_changes(a.quantiles, b.quantiles)
    for name, region in regions.items():
        change = functools.partial(class_pairs.changes, region=region)
        rows.append(
            row(
                f"{CHANGE}, {name}",
                change(a.images, b.images),
                random=within(change, "images"),
                **{key: float(x[region].mean()) for key, x in least.items()},
            )
        )
    return rows


def _similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """MS-SSIM of a[i] and b[i], uint8 [n, s, s, 1]; float32 [n]."""
    rows = np.arange(len(a))
    return ms_ssim.pair_similarities(np.concatenate([a, b]), rows, rows + len(a))


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance of a[i] and b[i], float [n, d]; float [n]."""
    return np.linalg.norm(a - b, axis=1)


def least_changes(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    """Least mean change of each pixel from one real class to another, estimated.

    Args:
        a: quantiles of halves A and B of a class, from `pixel_quantiles`.
        b: those of another class.

    Returns:
        {"least": ..., "chance": ...}, float64 [s, s] each, for pixels in [0, 1]: the
        mean Wasserstein distance between half A of one class and half B of the other,
        and between halves A and B of each class, which differ by chance alone.
    """
    return {
        "least": (_wasserstein(a[0], b[1]) + _wasserstein(b[0], a[1])) / 2,
        "chance": (_wasserstein(*a) + _wasserstein(*b)) / 2,
    }


def pixel_quantiles(images: np.ndarray) -> np.ndarray:
    """Values of each pixel at QUANTILES levels, for pixels in [0, 1].

    uint8 [n, s, s, 1] -> float64 [QUANTILES, s, s].
    """
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    values: np.ndarray = np.quantile(images[..., 0], levels, axis=0) / 255
    return values


def _wasserstein(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance of the values of each pixel, from their quantiles."""
    distance: np.ndarray = np.abs(a - b).mean(0)
    return distance
