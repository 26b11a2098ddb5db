"""What an evaluation finds: figures, each with its interval and the floor it is above.

A floor is the same figure of real images: what a perfect generator would reach with as
many. A figure without one says nothing, and is not reported.
"""

from typing import Any, NamedTuple

POOLED = "all classes"  # in place of a class: equally many images of each
HEADLINE = "generated~B"  # the judges never learnt from half B

# Sets a figure is of -> sets its floor is of. `first~second` compares two.
FLOORS = {
    HEADLINE: "A~B",
    "generated~A": "B~A",
    "generated~val": "B~val",
    "generated~A+B": "A~B",
    "generated~train": "val~train",
    "generated": "val",
    "trained on generated": "trained on real",
    "few and generated": "few, best without",
}
DIGITS = 6  # significant, of a figure that is written


class Key(NamedTuple):
    """Which figure: of what kind, seen how, of which images."""

    metric: str  # "kid"
    space: str  # where it is seen: "cxr", an octave, a factor
    group: str  # a class, or POOLED
    sets: str  # "generated~B", "val"


class Figure(NamedTuple):
    """A number, and what is to be known to trust it."""

    value: float
    low: float  # of an interval of 95 %
    high: float
    n: int  # images, of the smaller set where two are compared
    seed: int  # of which images, and of the interval


Figures = dict[Key, Figure]


def with_floors(figures: Figures) -> list[tuple[Key, Figure, Figure]]:
    """Every figure of generated images that has a floor, in order, with its floor."""
    found = []
    for key, figure in figures.items():
        if key.sets in FLOORS:
            floor = figures.get(key._replace(sets=FLOORS[key.sets]))
            if floor is not None:
                found.append((key, figure, floor))
    return found


def rows(figures: Figures) -> list[dict[str, Any]]:
    """As JSON holds them: a row for each figure that has a floor."""
    return [
        {**key._asdict(), **_numbers(figure)}
        | {"floor": {"sets": FLOORS[key.sets], **_numbers(floor)}}
        for key, figure, floor in with_floors(figures)
    ]


def _numbers(figure: Figure) -> dict[str, Any]:
    """`error` is the standard error, read off the width of the interval."""
    numbers = figure._asdict() | {"error": (figure.high - figure.low) / (2 * 1.96)}
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in numbers.items()
    }
