"""Intervals of several figures that are computed together."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from cxr_gan.metrics.intervals import Statistic

Ends = tuple[float, float, float]  # a value, and its interval


def together(
    function: Callable[[np.ndarray], Sequence[float]],
    total: int,
    interval: Callable[[Statistic], tuple[float, float]],
) -> list[Ends]:
    """Each number that function has for all of `total` images, with its interval.

    Args:
        function: int64 indices of images -> numbers, always as many.
        total: how many images there are.
        interval: of one statistic, such as a partial `intervals.bootstrap`; it must
            draw the same indices each time, so that each draw is computed once.
    """

    @functools.cache
    def of(drawn: bytes) -> tuple[float, ...]:
        return tuple(float(x) for x in function(np.frombuffer(drawn, np.int64)))

    def single(place: int) -> Statistic:
        return lambda drawn: of(drawn.astype(np.int64).tobytes())[place]

    values = of(np.arange(total).tobytes())
    return [(value, *interval(single(place))) for place, value in enumerate(values)]
