"""CPU features, compiler flags of XLA:CPU, and a map over threads, one per core."""

import contextlib
import contextvars
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax

from cxr_gan.runtime import jax_config

CPUINFO = pathlib.Path("/proc/cpuinfo")  # CPU description on Linux
XLA_OPTIONS = ("xla_cpu_disable_loop_unrolling", "xla_cpu_disable_new_fusion_emitters")

_portable: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "portable", default=False
)
Item = TypeVar("Item")


def on_cpu() -> bool:
    """Whether programs are compiled for this CPU; known at trace time."""
    return jax.default_backend() == "cpu" and not _portable.get()


@contextlib.contextmanager
def portable_programs() -> Iterator[None]:
    """Programs traced within are for any platform: no kernels of `models.cpu`."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def simd_level() -> str:
    """Widest supported SIMD instruction set of this CPU: "avx512", "avx2", or "".

    AVX2 vectors are half as wide, so convolutions are limited by their multiplications.
    Other processors, and systems other than Linux, give "": nothing was measured there.
    """
    names = {"avx512f": "avx512", "avx2": "avx2"}
    return next((name for flag, name in names.items() if flag in _cpuinfo_words()), "")


def has_fast_bfloat16() -> bool:
    """Whether this CPU has Intel's AMX, which speeds up bfloat16 matrix products."""
    return "amx_bf16" in _cpuinfo_words()


def available_cpus() -> int:
    """Number of CPU cores this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


@functools.cache
def _cpuinfo_words() -> frozenset[str]:
    """All words of CPUINFO, the CPU's flags among them; empty if it does not exist."""
    return frozenset(
        CPUINFO.read_text(encoding="utf-8").split() if CPUINFO.exists() else ()
    )


def set_xla_cpu_flags() -> None:
    """Adds XLA_OPTIONS to XLA_FLAGS, which makes training start and run faster on CPUs.

    Call it before JAX is used. The options apply to every program of the process; they
    cannot be set for one program. If XLA_FLAGS already contains
    --xla_backend_extra_options, it is left unchanged.

    *Loop unrolling disabled.* LLVM would unroll a loop over 32 channels completely and
    then fail to vectorise it to eight elements at a time: two to three times as slow,
    and ten times as long to compile.

    *Older fusion emitters.* They need half the compile time and half the memory.

    Measured on x86 only, with AVX2 and AVX-512. XLA:CPU reads both options itself and
    does not pass them to LLVM, so they are valid for every target processor.
    """
    flags, name = os.environ.get("XLA_FLAGS", ""), "--xla_backend_extra_options"
    if name not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {name}={','.join(XLA_OPTIONS)}".strip()


def threaded_map(
    program: Callable[[Item], jax.Array], items: Sequence[Item]
) -> list[jax.Array]:
    """[program(item) for item in items]; on CPUs on one thread per core.

    XLA:CPU parallelises little of a program over cores: on two cores, two threads
    generate twice as many images. Each thread blocks until its result is computed,
    because asynchronously dispatched programs would all wait in one queue.
    """
    threads = min(available_cpus(), len(items)) if on_cpu() else 1
    if threads < 2:
        return [program(item) for item in items]
    config: Any = jax.config
    device = config.jax_default_device  # JAX's contexts apply to one thread only

    def call(item: Item) -> jax.Array:
        with jax_config.pinned(), jax.default_device(device):
            return jax.block_until_ready(program(item))

    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(call, items))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, too
