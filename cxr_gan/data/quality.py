"""Whether images can be radiographs that a GAN learns from: brightness and polarity.

Every image is measured by itself, so that a caller can stream them; brightness is on
the scale of the 8-bit images, 0 to 255. On 5,216 paediatric radiographs and on rendered
phantoms no image has a `fault`; one radiograph, with the arms beside the neck, is taken
for a negative, and 30 of their 5,216 negatives are not (256 px).
"""

import collections
import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

MIN_SPAN = 16  # between the 1st and the 99th percentile; else nearly constant
MIN_HIGH = 32  # 99th percentile; else nearly black: 12 bits divided by 65535 reach 16
MAX_LOW = 223  # 1st percentile; else nearly white
NEGATIVE_MARGIN = 20  # by which upper corners are brighter than the middle
MIN_NEGATIVE_FRACTION = 0.005  # of a class, for a warning
MIN_FOR_MEDIAN = 10  # images of a class whose brightness is compared
MAX_BRIGHTNESS_DIFFERENCE = 40  # between medians of two classes, or sets
MAX_CONTRAST_DIFFERENCE = 64
MIN_IMAGES = 50  # of a class, for a warning
MIN_CLASS_FRACTION = 0.1  # of the largest class


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What is known of one image."""

    mean: float
    low: int  # 1st percentile
    high: int  # 99th percentile
    inverted: bool  # likely a negative

    @property
    def contrast(self) -> int:
        """Difference of the percentiles."""
        return self.high - self.low


def measure(image: np.ndarray) -> Measurement:
    """Measures one image, uint8 [s, s] or [s, s, 1].

    It counts as a negative if the two upper corners, an eighth of the side each, are
    clearly brighter than the middle fifth: air is black on a radiograph, and the spine
    and the heart are bright.
    """
    image = image.reshape(image.shape[:2])
    counts = np.bincount(image.ravel(), minlength=256)
    at_most = np.cumsum(counts) / image.size
    low, high = np.searchsorted(at_most, (0.01, 0.99))
    side = len(image)
    corner, fifth = max(1, side // 8), max(1, side // 5)
    start = (side - fifth) // 2
    middle = image[start : start + fifth, start : start + fifth].mean()
    corners = image[:corner, :corner].mean() + image[:corner, -corner:].mean()
    return Measurement(
        mean=float(counts @ np.arange(256) / image.size),
        low=int(low),
        high=int(high),
        inverted=bool(corners / 2 > middle + NEGATIVE_MARGIN),
    )


def fault(measurement: Measurement) -> str | None:
    """Why an image cannot be a radiograph; None if it can."""
    if measurement.high < MIN_HIGH:
        return (
            f"nearly black (99 % of its pixels are at most {measurement.high} of 255)"
        )
    if measurement.low > MAX_LOW:
        return (
            f"nearly white (99 % of its pixels are at least {measurement.low} of 255)"
        )
    if measurement.contrast < MIN_SPAN:
        return (
            f"nearly constant (98 % of its pixels are from {measurement.low} to "
            f"{measurement.high} of 255)"
        )
    return None


def warnings(
    measurements: Sequence[Measurement],
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    names: Sequence[str] = (),
    depths: Sequence[int] = (),
) -> tuple[str, ...]:
    """Likely mistakes in a data set of which no image has a fault.

    These are negatives, classes of very different brightness, contrast or depth, and
    classes with very few images.

    Args:
        measurements: of each image.
        labels: index into class_names of each image.
        class_names: K names.
        names: of each image, shown as examples; () for none.
        depths: bits that each image was scaled by; () if they are unknown.
    """
    rows = {
        name: np.flatnonzero(np.asarray(labels) == label).tolist()
        for label, name in enumerate(class_names)
    }
    measured = {name: [measurements[i] for i in rows[name]] for name in rows}
    counts = {name: len(of_class) for name, of_class in measured.items()}
    found = _few_images(counts)
    for name in measured:
        negatives = [i for i in rows[name] if measurements[i].inverted]
        if len(negatives) > MIN_NEGATIVE_FRACTION * counts[name]:
            examples = [names[i] for i in negatives[:3]] if names else []
            found.append(
                f"{len(negatives)} of {counts[name]} images of class {name!r} look "
                "like negatives, bright where there is air"
                + (f", such as {', '.join(examples)}" if examples else "")
                + "; invert them if they are"
            )
    found += _unequal_ranges(
        {name: x for name, x in measured.items() if len(x) >= MIN_FOR_MEDIAN}
    )
    if depths:
        found += _unequal_depths({x: [depths[i] for i in rows[x]] for x in rows})
    return tuple(found)


def compare(
    one: Sequence[Measurement], other: Sequence[Measurement], what: str, with_what: str
) -> str | None:
    """A sentence that says how the ranges of two sets differ; None if it is little.

    Medians over the images are compared, so that a few of them do not matter.

    Args:
        one: of the images of one set, at least one.
        other: of the other set.
        what: names the first set, in the plural: "the images".
        with_what: names the other set: "the data set".
    """
    brightness = [_median(side, "mean") for side in (one, other)]
    contrast = [_median(side, "contrast") for side in (one, other)]
    if abs(brightness[0] - brightness[1]) > MAX_BRIGHTNESS_DIFFERENCE:
        word = "darker" if brightness[0] < brightness[1] else "brighter"
        return (
            f"{what} are much {word} than {with_what}: median brightness "
            f"{brightness[0]:.0f} against {brightness[1]:.0f} of 255"
        )
    if abs(contrast[0] - contrast[1]) > MAX_CONTRAST_DIFFERENCE:
        word = "less" if contrast[0] < contrast[1] else "more"
        return (
            f"{what} have much {word} contrast than {with_what}: median range "
            f"{contrast[0]:.0f} against {contrast[1]:.0f} of 255"
        )
    return None


def _median(measured: Sequence[Measurement], key: str) -> float:
    return float(np.median([getattr(measurement, key) for measurement in measured]))


def _few_images(counts: dict[str, int]) -> list[str]:
    largest = max(counts.values(), default=0)
    return [
        f"class {name!r} has only {count} images"
        + (f", the largest class has {largest}" if largest > count else "")
        + "; a GAN repeats the images of a class this small: add some"
        for name, count in counts.items()
        if count < max(MIN_IMAGES, MIN_CLASS_FRACTION * largest)
    ]


def _unequal_ranges(measured: dict[str, list[Measurement]]) -> list[str]:
    """Of the two classes that differ most in brightness, and in contrast."""
    found = set()
    for key in ("mean", "contrast"):
        medians = [
            (_median(of_class, key), name) for name, of_class in measured.items()
        ]
        if len(medians) > 1:
            extremes = {min(medians)[1], max(medians)[1]}
            one, other = (name for name in measured if name in extremes)
            what = f"the images of class {one!r}", f"those of class {other!r}"
            found.add(compare(measured[one], measured[other], *what))
    return [
        f"{note}; a GAN learns such a difference as if it were the finding"
        for note in sorted(filter(None, found))
    ]


def _unequal_depths(depths: dict[str, list[int]]) -> list[str]:
    """Of two classes, more than half of whose images would have to change depth."""
    counts = {name: collections.Counter(x) for name, x in depths.items() if x}
    for one, other in itertools.combinations(counts, 2):
        common = sum(
            min(counts[x][depth] / counts[x].total() for x in (one, other))
            for depth in counts[one]
        )
        if common < 0.5:
            most = [counts[x].most_common(1)[0][0] for x in (one, other)]
            return [
                f"most images of class {one!r} have {most[0]} bits, most of class "
                f"{other!r} have {most[1]}; a GAN learns the difference of detectors "
                "as if it were the finding"
            ]
    return []
