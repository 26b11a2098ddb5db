"""What the networks do on CPUs alone, where XLA leaves more to those who use it."""

from typing import TypeVar

import jax
from jax import lax

Arrays = TypeVar("Arrays")


def on_cpu() -> bool:
    """Whether programs are compiled for CPUs; known when they are traced."""
    return jax.default_backend() == "cpu"


def written(arrays: Arrays) -> Arrays:
    """The same arrays, worked out once, on the way there and on the way back.

    XLA:CPU would work them out anew in every loop that reads them, pixel by pixel.
    """
    return lax.optimization_barrier(arrays) if on_cpu() else arrays
