"""Data parallelism over devices and processes; the only module that uses pmap."""

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import jax_utils
from jax import lax

from cxr_gan.training.gan import GanDefinition
from cxr_gan.training.loss_terms import Metrics
from cxr_gan.training.train_state import TrainState
from cxr_gan.training.train_step import AXIS, train_step

Batch = dict[str, np.ndarray]
Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


@contextlib.contextmanager
def gc_disabled() -> Iterator[None]:
    """Disables Python's cyclic garbage collector inside the block.

    Tracing a step takes one sixth less time: the collector would scan the many live
    objects of the trace again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def compile_step(
    gan: GanDefinition,
    state: TrainState,
    batch_size: int,
    devices: Sequence[jax.Device] | None = None,
) -> Step:
    """The compiled step(replicated state, sharded batch, replicated key).

    It runs on `devices`, by default on all. The state is donated, except on CPUs:
    XLA:CPU first copies donated buffers, which costs 6 % of a step. The step is
    compiled here for the global batch size, before there is a batch; with several
    processes pmap compiles at the first call instead. The tracing caches are cleared
    afterwards, which frees 100 MB.
    """
    platform = devices[0].platform if devices else jax.default_backend()
    step = jax.pmap(
        functools.partial(train_step, gan),
        axis_name=AXIS,
        donate_argnums=() if platform == "cpu" else (0,),
        devices=devices,
    )
    if jax.process_count() > 1:
        return step
    count = len(devices) if devices else jax.local_device_count()
    local = (count, batch_size // count)
    size = gan.resolution
    batch = {
        "image": jax.ShapeDtypeStruct((*local, size, size, 1), np.uint8),
        "label": jax.ShapeDtypeStruct(local, np.int32),
    }
    stacked = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype),
        (state, jax.eval_shape(lambda: jax.random.key(0))),
    )
    with gc_disabled():
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
    """This process's batch [b, ...] -> [local devices, b / devices, ...], in order."""
    devices = jax.local_device_count()
    return {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in batch.items()}


class StopConsensus:
    """Agreement of all processes on a stop level: the maximum over processes.

    The maximum is requested in one step and fetched in the next, so no process waits
    for it. The first request runs in the constructor: Gloo, the collectives library of
    CPUs, times out after 30 s in the first collective. Later ones may take any time,
    for instance while the step is compiled.
    """

    def __init__(self) -> None:
        self._pending = _request_max(0)

    def __call__(self, level: int) -> int:
        """The maximum over all processes of the level given in the previous call.

        With a single process, its own level of this step. Every process must call it
        once a step.
        """
        if jax.process_count() == 1:
            return level
        previous, self._pending = self._pending, _request_max(level)
        return int(unreplicate(previous))


def _request_max(level: int) -> jax.Array | None:
    """Starts to compute the maximum over processes; None with a single process."""
    if jax.process_count() == 1:
        return None
    return _max_over_devices(np.full(jax.local_device_count(), level, np.int32))


_max_over_devices = jax.pmap(lambda level: lax.pmax(level, AXIS), AXIS)
