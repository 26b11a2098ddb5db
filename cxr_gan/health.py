"""When a training is ill though its figures are still numbers, said in words.

These are warnings: the run goes on, and may recover. A figure that became NaN or
infinite is `report.NonFiniteError`, which ends the run or rolls it back.

Runs of the published configuration that went well stayed far within: losses below 2,
D's lead from 0.14 to 0.65 after the first rounds, g/repetition below 0.09 and
eval/repetition below 0.14.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

EXPLODED = 100.0  # a loss, in either direction
BEATEN = 0.9  # D's lead, in distances of its two targets
FOOLED = 0.0
ALIKE = (
    4 / 9
)  # of `losses.sameness`: where class-mates differ half as much as real ones
REPEATED = 0.2  # MS-SSIM within a class, above that within val's
LASTING = 5  # reports in a row, of what a single one may show by chance

LOSSES = (
    *("d/adversarial", "d/class", "d/penalty"),
    *("g/adversarial", "g/class", "g/matching"),
)
ANEW = "in another --workdir"


class Sign(NamedTuple):
    """What one figure of a report tells."""

    figure: str
    ill: Callable[[float], bool]
    lasting: int  # reports in a row that make it worth a warning
    words: str


def signs(
    class_names: Iterable[str], span: float, sameness_weight: float
) -> tuple[Sign, ...]:
    """All that is looked for.

    Args:
        class_names: of the data.
        span: of the adversarial loss: the distance of D's two targets.
        sameness_weight: by which g/repetition was multiplied; 0 = no such term.
    """
    exploded = f"losses explode; should it go on, try smaller learning rates {ANEW}"
    beaten = (
        f"for {LASTING} reports D has been sure of nearly all images, and G learns "
        f"little from it; try a larger --config.loss.r1_weight {ANEW}"
    )
    gone = (
        f"for {LASTING} reports D has been sure of nearly all images of this class; "
        f"where the grids show it black or white, begin anew with another "
        f"--config.seed {ANEW}"
    )
    fooled = (
        f"for {LASTING} reports D has told nothing apart, and G learns nothing from "
        f"it; try a smaller --config.loss.r1_weight {ANEW}"
    )
    varied = (
        "G repeats itself within a class; look at the grids, and try a larger "
        f"--config.loss.sameness_weight {ANEW}"
    )
    alike = ALIKE * sameness_weight if sameness_weight else math.inf
    return (
        *(Sign(key, lambda x: abs(x) >= EXPLODED, 1, exploded) for key in LOSSES),
        Sign("d/lead", lambda x: x >= BEATEN * span, LASTING, beaten),
        Sign("d/lead", lambda x: x <= FOOLED * span, LASTING, fooled),
        *(
            Sign(f"d/lead/{name}", lambda x: x >= BEATEN * span, LASTING, gone)
            for name in class_names
        ),
        Sign("g/repetition", lambda x: x >= alike, LASTING, varied),
        *(
            Sign(f"eval/repetition/{name}", lambda x: x >= REPEATED, 1, varied)
            for name in class_names
        ),
    )


class Watch:
    """Counts for how many reports each sign has lasted, and warns of it once.

    What went away and came back is warned of again.
    """

    def __init__(self, signs: tuple[Sign, ...]):
        self._signs = signs
        self._lasted: Counter[Sign] = Counter()

    def look(self, figures: Mapping[str, float]) -> list[str]:
        """Warnings that are due with this report; of signs it has figures for."""
        due = []
        for sign in self._signs:
            if sign.figure in figures:
                value = figures[sign.figure]
                lasted = self._lasted[sign] + 1 if sign.ill(value) else 0
                self._lasted[sign] = lasted
                if lasted == sign.lasting:
                    due.append(f"{sign.figure} is {value:.3g}: {sign.words}")
        return due
