"""A batch in parts, one after the other: less is kept for the way back."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Means = TypeVar("Means")
Each = TypeVar("Each")


def in_parts(
    count: int, function: Callable[..., tuple[Means, Each]], *examples: Any
) -> tuple[Means, Each]:
    """function(*examples), from `count` consecutive parts of the examples.

    Exact up to rounding for whatever is a mean over examples or is said of each, also
    for gradients of such means.

    Args:
        count: of parts; divides n. With 1 there is nothing but a call of function.
        function: (arrays [m, ...]) -> what is a mean over the m examples, and what is
            said of each of them, arrays [m, ...]. Trees of them, or None.
        examples: trees of arrays [n, ...].

    Returns:
        The means over all n examples; arrays [n, ...] of each.
    """
    if count == 1:
        return function(*examples)
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), examples)
    first = jax.tree.map(lambda x: x[0], parts)
    nothing = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *first)[0]
    )

    def add(total: Means, part: tuple[Any, ...]) -> tuple[Means, Each]:
        means, each = function(*part)
        return jax.tree.map(jnp.add, total, means), each

    total, each = lax.scan(add, nothing, parts)
    means = jax.tree.map(lambda x: x / count, total)
    return means, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), each)
