"""Results of an evaluation: estimates with intervals and real-data references.

A real-data reference is the same metric of equally many real images in place of the
generated ones: the value a perfect generator would reach. An estimate without a
reference cannot be interpreted and is not reported.
"""

from typing import Any, NamedTuple

POOLED = "all classes"  # in place of a class name: equally many images of each class
HEADLINE = "generated~B"  # main comparison: the encoder `cxr` never saw half B

# Sets of an estimate -> sets of its reference. `first~second` compares two sets.
REFERENCES = {
    HEADLINE: "A~B",
    "generated~A": "B~A",
    "generated~val": "B~val",
    "generated~A+B": "A~B",
    "generated~train": "val~train",
    "generated": "val",
    "generated: B~val": "A: B~val",
    "trained on generated": "trained on real",
    "generated, then few": "few",
    "few and generated": "few, best without",
}
DIGITS = 6  # significant digits of the numbers in a report


class MetricKey(NamedTuple):
    """Identifies an estimate: metric, space, class and image sets."""

    metric: str  # such as "kid"
    space: str  # feature space such as "cxr", or an octave, a factor, a view
    group: str  # a class name, or POOLED
    sets: str  # such as "generated~B" or "val"


class Estimate(NamedTuple):
    """A value with its 95 % interval, sample size and seed."""

    value: float
    low: float  # ends of the interval
    high: float
    n: int  # images; of the smaller set where two are compared
    seed: int  # of the selection of images, and of the interval


Estimates = dict[MetricKey, Estimate]


def with_reference(estimates: Estimates) -> list[tuple[MetricKey, Estimate, Estimate]]:
    """(key, estimate, reference) of each estimate that has a reference, in order."""
    triples = []
    for key, estimate in estimates.items():
        if key.sets in REFERENCES:
            reference = estimates.get(key._replace(sets=REFERENCES[key.sets]))
            if reference is not None:
                triples.append((key, estimate, reference))
    return triples


def to_rows(estimates: Estimates) -> list[dict[str, Any]]:
    """One JSON row for each estimate that has a real-data reference."""
    return [
        {**key._asdict(), **_fields(estimate)}
        | {"reference": {"sets": REFERENCES[key.sets], **_fields(reference)}}
        for key, estimate, reference in with_reference(estimates)
    ]


def _fields(estimate: Estimate) -> dict[str, Any]:
    """Rounded fields, and `error`: the standard error from the interval's width."""
    error = (estimate.high - estimate.low) / (2 * 1.96)
    return rounded({**estimate._asdict(), "error": error})


def rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    """The same numbers; floats with `DIGITS` significant digits."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in numbers.items()
    }
