"""Activation dtype, optimization barriers and chunks of examples for XLA:CPU."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from cxr_gan.runtime.cpu import on_cpu

Arrays = TypeVar("Arrays")
CHUNK_PIXELS = 1024  # pixels of a chunk of images; it fits the cache of a core


def activation_dtype(dtype: Any) -> Any:
    """The dtype of arrays between layers that compute in `dtype`; float32 on CPUs.

    XLA:CPU converts bfloat16 arrays to float32 and back wherever it moves or adds them.
    On CPUs, therefore, only the operands of convolutions are rounded to bfloat16.
    """
    return jnp.float32 if on_cpu() else dtype


def materialize(arrays: Arrays) -> Arrays:
    """The same arrays; on CPUs they are computed once, forward and backward.

    An optimization barrier keeps XLA:CPU from fusing their computation into every loop
    that reads them, which would repeat it for each pixel.
    """
    return lax.optimization_barrier(arrays) if on_cpu() else arrays


def prevent_inplace(x: jax.Array) -> jax.Array:
    """x [n, h, w, c], unchanged; no result is written into its buffer.

    XLA:CPU would write an elementwise result of x's shape over x. LLVM does not see
    that both are one buffer, and then uses no vector instructions: such loops took
    three times as long. So an optimization barrier holds x in another shape.
    """
    n, h, w, c = x.shape
    return materialize(x.reshape(n, h * w, c)).reshape(x.shape)


def chunk_size(side: int) -> int:
    """How many images of side x side pixels a convolution processes at once.

    Their intermediate arrays then stay in the cache of a core.
    """
    return max(2, CHUNK_PIXELS // side**2)


def map_chunks(
    function: Callable[[jax.Array], jax.Array], x: jax.Array, size: int
) -> jax.Array:
    """function(x), computed in chunks of `size` examples one after the other.

    All n examples are one chunk where `size` does not divide n.
    """
    n = len(x)
    if n <= size or n % size:
        return function(x)
    y = lax.map(function, x.reshape(n // size, size, *x.shape[1:]))
    return y.reshape(n, *y.shape[2:])


def sum_chunks(
    gradient: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    dy: jax.Array,
    size: int,
) -> jax.Array:
    """gradient(x, dy), a sum over n examples, added up over chunks of `size` examples.

    All n examples are one chunk where `size` does not divide n. The chunks of
    x [n, h, h, c] and dy [n, h', h', d] are added up in float32, for any dtype of both.
    """
    n = len(x)
    if n <= size or n % size:
        return gradient(x, dy)

    def add(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        chunk = [lax.dynamic_slice_in_dim(a, first, size) for a in (x, dy)]
        return total + gradient(chunk[0], chunk[1]), None

    zero = jnp.zeros(jax.eval_shape(gradient, x[:size], dy[:size]).shape)
    return lax.scan(add, zero, jnp.arange(0, n, size))[0]
