"""What the networks do on CPUs alone, where XLA leaves more to those who use it."""

import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Arrays = TypeVar("Arrays")
Item = TypeVar("Item")
CPU = pathlib.Path("/proc/cpuinfo")  # what Linux knows of the processor
ASKED = ("xla_cpu_disable_loop_unrolling", "xla_cpu_disable_new_fusion_emitters")
PIXELS = 1024  # of images that are worked on together, in a core's cache


def on_cpu() -> bool:
    """Whether programs are compiled for CPUs; known when they are traced."""
    return jax.default_backend() == "cpu"


def vectors() -> str:
    """What this CPU multiplies several numbers with: "avx512", "avx2", or "".

    With AVX2, half as wide, a convolution waits for its multiplications. Of a system
    that is not Linux, or another processor, nothing was measured: "".
    """
    names = {"avx512f": "avx512", "avx2": "avx2"}
    return next((name for flag, name in names.items() if flag in _instructions()), "")


def multiplies_bfloat16() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 much faster: Intel's AMX."""
    return "amx_bf16" in _instructions()


def cores() -> int:
    """How many this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


@functools.cache
def _instructions() -> frozenset[str]:
    """What Linux knows of this CPU, among other words; of other systems nothing."""
    return frozenset(CPU.read_text(encoding="utf-8").split() if CPU.exists() else ())


def ask_compiler() -> None:
    """Asks XLA:CPU for what makes a training start and run soonest, by XLA_FLAGS.

    To be called before JAX is used. No program can ask for itself alone, so all of the
    process do; whoever has asked LLVM for something there is left alone.

    *No loop unrolled.* One over 32 channels LLVM would write out number by number, and
    then not find that eight may be multiplied at a time: two to three times as slow,
    and ten times as long to compile.

    *The older fused loops.* They compile in half of the time and of the memory.

    Measured on x86 alone, with AVX2 and AVX-512. Both are words of XLA:CPU's own, which
    LLVM is not handed, for whatever it compiles.
    """
    given, extra = os.environ.get("XLA_FLAGS", ""), "--xla_backend_extra_options"
    if extra not in given:
        asked = f"{given} {extra}={','.join(ASKED)}"
        os.environ["XLA_FLAGS"] = asked.strip()


def stored(dtype: Any) -> Any:
    """The type of arrays between layers whose arithmetic is of dtype; CPUs: float32.

    XLA:CPU makes arrays of bfloat16 float32 and back wherever it moves or adds them. So
    only what convolutions multiply is bfloat16 there.
    """
    return jnp.float32 if on_cpu() else dtype


def written(arrays: Arrays) -> Arrays:
    """The same arrays, worked out once, on the way there and on the way back.

    XLA:CPU would work them out anew in every loop that reads them, pixel by pixel.
    """
    return lax.optimization_barrier(arrays) if on_cpu() else arrays


def apart(x: jax.Array) -> jax.Array:
    """x [n, h, w, c]; on CPUs nothing that is made of it is written in its place.

    What is made number by number, and has x's shape, XLA:CPU would write over x; LLVM
    does not see that both are one place, and then takes no two numbers at a time: three
    times as slow. So x is kept in another shape, as rows of pixels.
    """
    if not on_cpu():
        return x
    n, h, w, c = x.shape
    return written(x.reshape(n, h * w, c)).reshape(x.shape)


def at_once(side: int) -> int:
    """How many images of side x side pixels are best worked on at once.

    What they are made into on the way then stays in a core's cache.
    """
    return max(2, PIXELS // side**2)


def learn_at_once(n: int, side: int) -> int:
    """From how many of n images of side x side pixels weights learn at once.

    As many as `at_once` says; from twice as many too, for a loop would not pay.
    """
    return n if n * side**2 <= 2 * PIXELS else at_once(side)


def map_chunks(
    answer: Callable[[jax.Array], jax.Array], x: jax.Array, size: int
) -> jax.Array:
    """answer(x) of n examples, in chunks of `size`, if those divide n."""
    n = len(x)
    if n <= size or n % size:
        return answer(x)
    answers = lax.map(answer, x.reshape(n // size, size, *x.shape[1:]))
    return answers.reshape(n, *answers.shape[2:])


def sum_chunks(
    slope: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    dy: jax.Array,
    size: int,
) -> jax.Array:
    """slope(x, dy), a sum over n examples: over chunks of `size`, if those divide n.

    Summed in float32, whatever x [n, h, h, c] and dy [n, h', h', d] are.
    """
    n = len(x)
    if n <= size or n % size:
        return slope(x, dy)

    def add(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        chunk = [lax.dynamic_slice_in_dim(a, first, size) for a in (x, dy)]
        return total + slope(chunk[0], chunk[1]), None

    none = jnp.zeros(jax.eval_shape(slope, x[:size], dy[:size]).shape)
    return lax.scan(add, none, jnp.arange(0, n, size))[0]


def side_by_side(
    program: Callable[[Item], jax.Array], items: Sequence[Item]
) -> list[jax.Array]:
    """[program(item) for item in items]; on CPUs a thread of each core takes its share.

    XLA:CPU leaves little of a program to other cores: on two, two threads draw twice as
    many images. Each waits for its answer: what it left to be computed later would
    stand in one queue with what the others left.
    """
    threads = min(cores(), len(items)) if on_cpu() else 1
    if threads < 2:
        return [program(item) for item in items]
    config: Any = jax.config
    device = config.jax_default_device  # a `with` of it holds in the caller's thread

    def call(item: Item) -> jax.Array:
        with jax.default_device(device):
            return jax.block_until_ready(program(item))

    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(call, items))
    finally:
        pool.shutdown(cancel_futures=True)  # of whoever presses Ctrl-C, too
