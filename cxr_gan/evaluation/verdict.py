"""From figures to words: one table of rules, with reasons.

Thresholds are round numbers with a meaning of their own, set by hand. Most were set
before any result; the likeness of pairs, the distance in classes and the share near to
training were mended on phantoms with faults made on purpose, and on one run trained on
phantoms, evaluated against them and against real radiographs.

Each rule looks at one figure and its floor. Ends of intervals are compared rather than
values wherever chance could decide, so that few images are not found guilty.
"""

from collections.abc import Callable
from typing import NamedTuple

from cxr_gan.evaluation.figures import POOLED, Figure, Figures, with_floors

NONE = "no fault found"
HIGHEST = "1/4-1/2"  # octave, cycles/pixel: the finest at every resolution
FAR = "far from real images"
REPEATED = "few images repeated"
SMOOTH, NOISY = "texture too smooth", "texture too noisy"


class Rule(NamedTuple):
    """One way to be at fault."""

    words: str  # what is said; several rules may say the same
    metric: str
    space: str | None  # None for any
    pooled: bool  # whether it looks at all classes together, or at each
    fault: Callable[[Figure, Figure, float], bool]  # of figure, floor, chance = 1 / K
    reason: str  # for the threshold
    unless: tuple[str, ...] = ()  # faults of which this would be the consequence


def judge(figures: Figures, class_names: tuple[str, ...]) -> list[str]:
    """The faults of a set of images, in words, each once; none if it has none.

    A fault found in some of the classes only names them.
    """
    found: dict[str, set[str]] = {}
    chance = 1 / len(class_names)
    for rule in RULES:
        for key, figure, floor in with_floors(figures):
            other = key.sets in ("generated~A", "generated~val")
            if other or key.metric != rule.metric:
                continue
            if rule.space not in (None, key.space):
                continue
            if rule.pooled != (key.group == POOLED) or found.keys() & rule.unless:
                continue
            if rule.fault(figure, floor, chance):
                found.setdefault(rule.words, set()).add(key.group)
    return [_say(words, groups, class_names) for words, groups in found.items()]


def _say(words: str, groups: set[str], class_names: tuple[str, ...]) -> str:
    if POOLED in groups or len(groups) == len(class_names):
        return words
    return f"{words} ({', '.join(name for name in class_names if name in groups)})"


def line(faults: list[str]) -> str:
    """The last line of a report."""
    return f"verdict: {'; '.join(faults) or NONE}"


def can_judge(floor: Figure, chance: float) -> bool:
    """Whether the judge of classes knows real images: half way from chance to all."""
    return floor.value > (1 + chance) / 2


# To add a fault, or another sign of one, add it here.
RULES = (
    Rule(
        FAR,
        "kid_in_classes",
        "cxr",
        True,
        lambda f, floor, chance: f.low > 1 + floor.high,
        "Farther from real images than normal ones are from ill ones.",
    ),
    Rule(
        FAR,
        "precision",
        "cxr",
        True,
        lambda f, floor, chance: f.high < 0.5 * floor.value,
        "Half of what passes among real images does not.",
    ),
    Rule(
        "labels swapped",
        "label_fidelity",
        None,
        True,
        lambda f, floor, chance: can_judge(floor, chance) and f.high < 0.8 * chance,
        "Guessing gives the chance level; surely below, labels are known, and wrong.",
    ),
    Rule(
        "labels often wrong",
        "label_fidelity",
        None,
        True,
        lambda f, floor, chance: (
            can_judge(floor, chance)
            and f.high >= 0.8 * chance
            and f.high < (floor.value + chance) / 2
        ),
        "Surely nearer to guessing than to real images.",
        (FAR,),
    ),
    Rule(
        REPEATED,
        "repeated",
        None,
        True,
        lambda f, floor, chance: f.low > floor.value + 0.01,
        "A continuous latent does not draw the same pixels twice.",
    ),
    Rule(
        REPEATED,
        "spacing",
        "cxr",
        False,
        lambda f, floor, chance: f.high < 0.5 * floor.value,
        "Nearest images of one set twice as near as real ones: in a space of D "
        "dimensions, where a set is 2^D times as dense.",
    ),
    Rule(
        "less varied than real images",
        "ms_ssim",
        None,
        False,
        lambda f, floor, chance: f.low > 0.1 + abs(floor.value),
        "Real pairs of a class vary by about 0.1. Blur alone raises likeness, too, by "
        "some 0.06: less than 0.1 does not tell the one from the other.",
    ),
    Rule(
        "less varied than real images",
        "coverage",
        "cxr",
        True,
        lambda f, floor, chance: f.high < 0.5 * floor.value,
        "Half of the real images that others of their kind come near are left out.",
        (FAR,),
    ),
    Rule(
        "training images copied",
        "exact_copies",
        None,
        True,
        lambda f, floor, chance: f.value > floor.value,
        "One is one too many, and never chance.",
    ),
    Rule(
        "training images copied",
        "near_copies",
        None,
        True,
        lambda f, floor, chance: f.value > floor.value,
        "A quarter of the first percentile: chance puts 1 in 100 000 there "
        "(`neighbours.audit`).",
    ),
    Rule(
        "training images copied",
        "below_first_percentile",
        None,
        True,
        lambda f, floor, chance: f.low > max(0.05, floor.high),
        "Five times as many as of other patients, and surely so; of few images, one "
        "that is typical would count again and again.",
        (REPEATED,),
    ),
    Rule(
        SMOOTH,
        "power",
        HIGHEST,
        False,
        lambda f, floor, chance: f.high < -3 and f.value < -2 * abs(floor.value),
        "Half of the power of the finest octave is gone: seen as blur.",
    ),
    Rule(
        NOISY,
        "power",
        HIGHEST,
        False,
        lambda f, floor, chance: f.low > 3 and f.value > 2 * abs(floor.value),
        "Twice the power of the finest octave: seen as grain, or a pattern.",
    ),
    Rule(
        "texture unlike real images",
        "precision",
        "texture",
        True,
        lambda f, floor, chance: f.high < 0.5 * floor.value,
        "Half of what passes among real images does not.",
        (SMOOTH, NOISY),
    ),
)
