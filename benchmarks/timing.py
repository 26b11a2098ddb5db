"""One operation by itself, and the CPU time it takes."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SECONDS = 0.1  # a round of one operation takes at least


@dataclasses.dataclass(frozen=True)
class Operation:
    """Something to time: calls of `run`, which returns when it has been computed."""

    kind: str  # what it is summed up under
    name: str
    per_step: float  # calls a step
    run: Callable[[], Any]
    flops: float = 0.0  # multiplications and additions of a call; 0: not counted
    others: dict[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)


def timed(run: Callable[[], Any], rounds: int) -> float:
    """CPU seconds of one call: the median of so many rounds."""
    run()
    before = time.process_time()
    run()
    calls = max(1, round(SECONDS / max(time.process_time() - before, 1e-6)))
    took = []
    for _ in range(rounds):
        before = time.process_time()
        for _ in range(calls):
            run()
        took.append((time.process_time() - before) / calls)
    return statistics.median(took)


def ready(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call of the compiled function, waited for."""
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arguments))


def noise(*shape: int) -> jax.Array:
    """float32 of N(0, 1)."""
    return jax.random.normal(jax.random.key(sum(shape)), shape)


def peak() -> Operation:
    """The core's float32 peak, as far as a product of two large matrices reaches it."""
    size = 1024
    a, b = noise(size, size), noise(size, size)
    return Operation("peak", "matmul", 0, ready(jnp.matmul, a, b), 2 * size**3)
