"""CPU time of single operations."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SECONDS = 0.1  # minimum duration of one repetition


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation to time; `run` returns when the result has been computed."""

    kind: str  # group in which times are summed
    name: str
    per_step: float  # calls per training step
    run: Callable[[], Any]
    flops: float = 0.0  # multiplications and additions per call; 0: not counted
    others: dict[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)


def cpu_seconds(run: Callable[[], Any], rounds: int) -> float:
    """CPU seconds of one call: the median of `rounds` repetitions of several calls."""
    run()
    start = time.process_time()
    run()
    calls = max(1, round(SECONDS / max(time.process_time() - start, 1e-6)))
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(calls):
            run()
        seconds.append((time.process_time() - start) / calls)
    return statistics.median(seconds)


def compiled_call(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call of the compiled function that waits for its result."""
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arguments))


def noise(*shape: int) -> jax.Array:
    """Standard normal float32 values; the seed is the sum of the shape."""
    return jax.random.normal(jax.random.key(sum(shape)), shape)


def peak() -> Operation:
    """A product of two large matrices, which estimates the core's float32 peak."""
    size = 1024
    a, b = noise(size, size), noise(size, size)
    return Operation("peak", "matmul", 0, compiled_call(jnp.matmul, a, b), 2 * size**3)
