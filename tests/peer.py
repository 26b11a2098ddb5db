"""One of several processes that play a round together.

Usage: python peer.py ADDRESS PROCESSES PROCESS FOLDER, run once for each PROCESS.
Begins with FOLDER/start.npz and leaves FOLDER/PROCESS.npz: all arrays of the state.
"""

import functools
import pathlib
import sys

import jax
import numpy as np
import tiny

from cxr_gan import parallel
from cxr_gan.state import create_state


def play(process: int, processes: int, start: list[np.ndarray]) -> list[np.ndarray]:
    """The state after one round of `tiny.Table`."""
    game = tiny.either_gan()
    batch = tiny.tiny_batch(tiny.tiny_config(game.resolution))
    share = len(batch["label"]) // processes
    own = slice(process * share, (process + 1) * share)
    shape = jax.eval_shape(functools.partial(create_state, game), tiny.key(0))
    state = jax.tree.unflatten(jax.tree.structure(shape), start)
    step = parallel.compile_step(game, state, len(batch["label"]))
    state, rng = parallel.replicate((state, tiny.key(1)))
    state, _ = step(state, parallel.shard({k: v[own] for k, v in batch.items()}), rng)
    return jax.tree.leaves(parallel.unreplicate(state))


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
        state = play(process, processes, list(start.values()))
    np.savez(pathlib.Path(folder) / f"{process}.npz", *state)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
