"""Settings of this process: number of CPU devices, malloc, XLA's compilation cache."""

import contextlib
import ctypes
import os
import platform

import jax

from cxr_gan.runtime.cpu import available_cpus, simd_level
from cxr_gan.storage import files


def set_cpu_device_count(num_groups: int) -> None:
    """Splits the CPU into devices: the most, up to its cores, that divide `num_groups`.

    It has no effect after the first use of JAX, on TPUs and GPUs, if the number of CPU
    devices is already set, or if this is one of several processes.

    Args:
        num_groups: parts of a batch that can be placed on different devices.
    """
    already_set = "xla_force_host_platform_device_count" in os.environ.get(
        "XLA_FLAGS", ""
    )
    if already_set or jax.config.values["jax_num_cpu_devices"] > 0:
        return
    if jax.distributed.is_initialized():
        return
    divisors = [n for n in range(1, available_cpus() + 1) if num_groups % n == 0]
    with contextlib.suppress(RuntimeError):  # JAX was used before
        jax.config.update("jax_num_cpu_devices", divisors[-1])


def tune_malloc() -> bool:
    """Makes glibc keep the memory of one training step for the next step.

    Call it before the process starts threads. By default glibc returns large blocks to
    the system after every step, and the system clears them before the next: a tenth to
    a third of the step time.

    On one core, or with AVX2, all threads share one heap, which returns nothing. On
    several cores (measured with AVX-512), a shared heap makes the devices wait for each
    other, so each thread has its own heap. Such a heap is limited to 64 MB, which is
    enough for one device's half of a batch of 16 images.

    Returns:
        True if all options were set; otherwise False, always so without glibc.
    """
    if not _has_glibc():
        return False
    libc = ctypes.CDLL(None)
    single_heap = available_cpus() == 1 or simd_level() == "avx2"
    options = [
        (-8, 1) if single_heap else (-2, 2**26),  # M_ARENA_MAX, or M_TOP_PAD, bytes
        (-1, 2**31 - 1),  # M_TRIM_THRESHOLD, bytes
        (-3, 2**30),  # M_MMAP_THRESHOLD, bytes
    ]
    return all(libc.mallopt(*option) for option in options)


def release_memory() -> bool:
    """Returns freed memory to the system; call it after a compilation.

    glibc would keep it, because it lies between blocks in use: 0.3 of 2.0 GB in a
    training on two devices.

    Returns:
        Whether any memory was returned.
    """
    return _has_glibc() and bool(ctypes.CDLL(None).malloc_trim(0))


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def enable_compilation_cache() -> None:
    """Makes XLA reuse programs compiled in earlier runs, from the user's cache folder.

    JAX_COMPILATION_CACHE_DIR or `jax.config` select another folder.
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        folder = files.user_cache_dir() / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # Start-up compiles about thirty small programs besides the training step.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
