"""Derives the verdict from the estimates: one table of rules, each with its reason.

Thresholds are interpretable round numbers, set by hand. Most were set before any
result was known. Those of pair similarity (MS-SSIM), KID in class units and the share
of images near to training were corrected on phantoms with known faults, and on one run
trained on phantoms, evaluated against phantoms and against real radiographs.

Each rule compares one estimate with its real-data reference. Where chance could decide,
it compares ends of intervals rather than values, so that few images do not produce a
false fault.
"""

from collections.abc import Callable
from typing import NamedTuple

from cxr_gan.evaluation.results import POOLED, Estimate, Estimates, with_reference

NONE = "no fault found"
HIGHEST = "1/4-1/2"  # octave, cycles/pixel: the finest one at every resolution
FAR = "far from real images"
REPEATED = "few images repeated"
SMOOTH, NOISY = "texture too smooth", "texture too noisy"


class Rule(NamedTuple):
    """One condition under which a set of images has a fault."""

    words: str  # name of the fault; several rules may share one
    metric: str
    space: str | None  # None for any
    pooled: bool  # whether the rule applies to all classes pooled, or to each class
    # (estimate, reference, 1 / number of classes) -> whether there is a fault.
    is_fault: Callable[[Estimate, Estimate, float], bool]
    reason: str  # for the threshold
    unless: tuple[str, ...] = ()  # skipped if one of these faults explains it


def find_faults(estimates: Estimates, class_names: tuple[str, ...]) -> list[str]:
    """The faults of a set of images, in words, each once; empty if there are none.

    A fault of some but not all classes names these classes.
    """
    found: dict[str, set[str]] = {}
    chance = 1 / len(class_names)
    for rule in RULES:
        for key, estimate, reference in with_reference(estimates):
            secondary = key.sets in ("generated~A", "generated~val")
            if secondary or key.metric != rule.metric:
                continue
            if rule.space not in (None, key.space):
                continue
            if rule.pooled != (key.group == POOLED) or found.keys() & rule.unless:
                continue
            if rule.is_fault(estimate, reference, chance):
                found.setdefault(rule.words, set()).add(key.group)
    return [_name_fault(words, groups, class_names) for words, groups in found.items()]


def _name_fault(words: str, groups: set[str], class_names: tuple[str, ...]) -> str:
    if POOLED in groups or len(groups) == len(class_names):
        return words
    return f"{words} ({', '.join(name for name in class_names if name in groups)})"


def classifier_is_reliable(reference: Estimate, chance: float) -> bool:
    """Whether the label classifier's accuracy on real images is sufficient.

    The threshold is half way between chance level and 1.
    """
    return reference.value > (1 + chance) / 2


# To add a fault, or another condition for one, add one entry here. In the conditions,
# x is the estimate, ref its real-data reference and chance 1 / number of classes.
RULES = (
    Rule(
        FAR,
        "kid_in_classes",
        "cxr",
        True,
        lambda x, ref, chance: x.low > 1 + ref.high,
        "Farther from real images than one real class is from another.",
    ),
    Rule(
        FAR,
        "precision",
        "cxr",
        True,
        lambda x, ref, chance: x.high < 0.5 * ref.value,
        "Less than half of the precision that real images reach.",
    ),
    Rule(
        "labels swapped",
        "label_accuracy",
        None,
        True,
        lambda x, ref, chance: (
            classifier_is_reliable(ref, chance) and x.high < 0.8 * chance
        ),
        "Random labels would reach chance level. An accuracy reliably below it means "
        "that labels are systematically wrong.",
    ),
    Rule(
        "labels often wrong",
        "label_accuracy",
        None,
        True,
        lambda x, ref, chance: (
            classifier_is_reliable(ref, chance)
            and x.high >= 0.8 * chance
            and x.high < (ref.value + chance) / 2
        ),
        "Reliably nearer to chance level than to the accuracy on real images.",
        (FAR,),
    ),
    Rule(
        REPEATED,
        "repeated",
        None,
        True,
        lambda x, ref, chance: x.low > ref.value + 0.01,
        "A continuous latent does not produce the same pixels twice.",
    ),
    Rule(
        REPEATED,
        "spacing",
        "cxr",
        False,
        lambda x, ref, chance: x.high < 0.5 * ref.value,
        "Nearest neighbours within the set are at less than half of the distance of "
        "real ones: in D dimensions the set is 2^D times as dense.",
    ),
    Rule(
        "less varied than real images",
        "ms_ssim",
        None,
        False,
        lambda x, ref, chance: x.low > 0.1 + abs(ref.value),
        "The MS-SSIM of real pairs of a class varies by about 0.1. Blur alone raises "
        "it by about 0.06, so a smaller threshold could not distinguish the two.",
    ),
    Rule(
        "less varied than real images",
        "coverage",
        "cxr",
        True,
        lambda x, ref, chance: x.high < 0.5 * ref.value,
        "Less than half of the coverage that real images reach.",
        (FAR,),
    ),
    Rule(
        "training images copied",
        "exact_copies",
        None,
        True,
        lambda x, ref, chance: x.value > ref.value,
        "A single exact copy is a fault and cannot occur by chance.",
    ),
    Rule(
        "training images copied",
        "near_copies",
        None,
        True,
        lambda x, ref, chance: x.value > ref.value,
        "Nearer than a quarter of the first percentile: by chance, about 1 image in "
        "100 000 (see `nearest_neighbours.audit`).",
    ),
    Rule(
        "training images copied",
        "below_first_percentile",
        None,
        True,
        lambda x, ref, chance: x.low > max(0.05, ref.high),
        "Reliably more than five times the share of held-out patients. Skipped where "
        "images repeat: one typical image would count many times.",
        (REPEATED,),
    ),
    Rule(
        "training patients recognisable",
        "membership_auroc",
        "cxr",
        True,
        lambda x, ref, chance: x.low > max(0.6, ref.high),
        "The generated images distinguish them from other patients clearly better than "
        "by chance.",
    ),
    Rule(
        "training patients recognisable",
        "membership_auroc",
        "pixels",
        True,
        lambda x, ref, chance: x.low > max(0.6, ref.high),
        "The generated images distinguish them from other patients clearly better than "
        "by chance.",
    ),
    Rule(
        SMOOTH,
        "power",
        HIGHEST,
        False,
        lambda x, ref, chance: x.high < -3 and x.value < -2 * abs(ref.value),
        "Less than half of the power in the finest octave: visible as blur.",
    ),
    Rule(
        NOISY,
        "power",
        HIGHEST,
        False,
        lambda x, ref, chance: x.low > 3 and x.value > 2 * abs(ref.value),
        "More than twice the power in the finest octave: visible as noise or as a "
        "pattern.",
    ),
    Rule(
        NOISY,
        "alternation",
        None,
        False,
        lambda x, ref, chance: x.low > 3 and x.value > 2 * abs(ref.value),
        "More than twice the power of stripes of 1 or 2 px, or of checkerboards, which "
        "the finest octave as a whole hardly shows.",
    ),
    Rule(
        "texture unlike real images",
        "precision",
        "texture",
        True,
        lambda x, ref, chance: x.high < 0.5 * ref.value,
        "Less than half of the precision that real images reach.",
        (SMOOTH, NOISY),
    ),
)
