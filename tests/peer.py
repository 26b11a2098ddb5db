"""One of several processes that compute a training step together.

Usage: python peer.py ADDRESS PROCESSES PROCESS FOLDER, run once for each PROCESS.
Reads FOLDER/start.npz and writes FOLDER/PROCESS.npz: all arrays of the state.
"""

import functools
import pathlib
import sys

import jax
import numpy as np
import tiny

from cxr_gan.training import data_parallel
from cxr_gan.training.train_state import create_train_state


def step(process: int, processes: int, start: list[np.ndarray]) -> list[np.ndarray]:
    """The state after one step of `tiny.TinyTraining`."""
    gan = tiny.sgd_or_adam_gan()
    batch = tiny.tiny_batch(tiny.tiny_config(gan.resolution))
    size = len(batch["label"]) // processes
    own = slice(process * size, (process + 1) * size)
    shape = jax.eval_shape(functools.partial(create_train_state, gan), tiny.key(0))
    state = jax.tree.unflatten(jax.tree.structure(shape), start)
    step_fn = data_parallel.compile_step(gan, state, len(batch["label"]))
    state, rng = data_parallel.replicate((state, tiny.key(1)))
    shards = data_parallel.shard({k: v[own] for k, v in batch.items()})
    state, _ = step_fn(state, shards, rng)
    return jax.tree.leaves(data_parallel.unreplicate(state))


def main(address: str, processes: int, process: int, folder: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        address,
        processes,
        process,
        initialization_timeout=60,
        heartbeat_timeout_seconds=30,
        shutdown_timeout_seconds=30,
    )
    with np.load(pathlib.Path(folder) / "start.npz") as start:
        state = step(process, processes, list(start.values()))
    np.savez(pathlib.Path(folder) / f"{process}.npz", *state)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
