"""The only file with pmap: one program on every device, one share of the batch each."""

import contextlib
import ctypes
import functools
import gc
import os
import platform
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import jax_utils
from jax import lax

from cxr_gan import disk
from cxr_gan.gan import Gan
from cxr_gan.models.backend import cores, vectors
from cxr_gan.state import TrainState
from cxr_gan.step import AXIS, train_step
from cxr_gan.terms import Metrics

Batch = dict[str, np.ndarray]
Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def use_cores(shares: int) -> None:
    """Makes a device of each CPU core, as far as `shares` can be dealt out evenly.

    To be called before JAX is used; does nothing where devices were already asked for,
    or several processes share the cores, and nothing to TPUs and GPUs.
    """
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if asked or jax.config.values["jax_num_cpu_devices"] > 0:
        return
    if jax.distributed.is_initialized():
        return
    fitting = [n for n in range(1, cores() + 1) if shares % n == 0]
    jax.config.update("jax_num_cpu_devices", fitting[-1])


def keep_memory() -> bool:
    """Lets glibc keep a step's memory for the next step.

    To be called before there are threads; returns whether there was anything to do.
    What is large goes back to the system after every step, to be cleared by it before
    the next: a tenth to a third of the time. On one core, or with AVX2, all threads get
    one heap, which gives nothing back. On several cores, measured with AVX-512, devices
    would wait for each other; each thread keeps its own heap there, which ends at 64
    MB: that is enough for a device's half of 16 images.
    """
    if not _glibc():
        return False
    libc = ctypes.CDLL(None)
    one_heap = cores() == 1 or vectors() == "avx2"
    asked = [
        (-8, 1) if one_heap else (-2, 2**26),  # M_ARENA_MAX, or M_TOP_PAD, bytes
        (-1, 2**31 - 1),  # M_TRIM_THRESHOLD, bytes
        (-3, 2**30),  # M_MMAP_THRESHOLD, bytes
    ]
    return all(libc.mallopt(*option) for option in asked)


def give_back_memory() -> bool:
    """Returns to the system what was freed; to be called when something was compiled.

    glibc would keep it, for it lies between what is in use: of two devices' training
    0.3 of 2.0 GB. Returns whether there was any.
    """
    return _glibc() and bool(ctypes.CDLL(None).malloc_trim(0))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Python looks for no dead cycles within: a sixth of the time a step is traced in.

    It would look again and again through all that tracing makes, which lives on.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def keep_compilations() -> None:
    """Lets XLA find in the user's cache what it compiled in an earlier run."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = disk.user_cache() / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # A start compiles some thirty small programs beside the step.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def compile_step(gan: Gan, state: TrainState, batch_size: int) -> Step:
    """step(replicated state, sharded batch, replicated key), its state donated.

    Not so on CPUs, where XLA first copies all that was donated: 6 % of a step's time.
    Compiled here for the global batch size, before any batch is there; with several
    processes, which pmap compiles for at the first call only, there. What JAX remembers
    of tracing, should the same be asked for again, is then forgotten: 100 MB.
    """
    given_up = () if jax.default_backend() == "cpu" else (0,)
    step = jax.pmap(
        functools.partial(train_step, gan), axis_name=AXIS, donate_argnums=given_up
    )
    if jax.process_count() > 1:
        return step
    devices = jax.local_device_count()
    local = (devices, batch_size // jax.device_count())
    size = gan.resolution
    batch = {
        "image": jax.ShapeDtypeStruct((*local, size, size, 1), np.uint8),
        "label": jax.ShapeDtypeStruct(local, np.int32),
    }
    stacked = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype),
        (state, jax.eval_shape(lambda: jax.random.key(0))),
    )
    with uncollected():
        lowered = step.lower(stacked[0], batch, stacked[1])
    compiled: Step = lowered.compile()
    jax.clear_caches()
    return compiled


def replicate(tree: Any) -> Any:
    """A copy of every array on every local device, laid out as the step returns it."""
    return jax_utils.replicate(tree, axis_name=AXIS)


def unreplicate(tree: Any) -> Any:
    """The first local device's copy, on the host: NumPy arrays."""
    return jax.device_get(jax_utils.unreplicate(tree))


def shard(batch: Batch) -> Batch:
    """This host's batch [b, ...] -> [local devices, b / devices, ...], in order."""
    devices = jax.local_device_count()
    return {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in batch.items()}


class Vote:
    """The highest wish of all processes, which all learn in the same round.

    It is asked for with one round and fetched with the next, so nobody waits for it.
    The first time is at once: Gloo, which joins CPUs, gives all their devices 30 s to
    meet, and after that any time, as to compile the step in.
    """

    def __init__(self) -> None:
        self._asked = _ask(0)

    def __call__(self, wish: int) -> int:
        """This process's wish of this round -> the highest of all in the round before.

        Where there is but one process, its own wish of this round. To be called once a
        round by all of them.
        """
        if jax.process_count() == 1:
            return wish
        last, self._asked = self._asked, _ask(wish)
        return int(unreplicate(last))


def _ask(wish: int) -> jax.Array | None:
    """Begins to find the highest wish of several processes; on each local device."""
    if jax.process_count() == 1:
        return None
    return _highest(np.full(jax.local_device_count(), wish, np.int32))


_highest = jax.pmap(lambda wish: lax.pmax(wish, AXIS), AXIS)
