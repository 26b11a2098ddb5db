import jax

jax.config.update("jax_num_cpu_devices", 8)  # before anything uses a device
jax.config.update("jax_disable_most_optimizations", True)  # compiling is all we wait for

import functools

import numpy as np
import pytest
from flax import jax_utils
from ml_collections import FrozenConfigDict

import tiny
from cxr_gan import parallel
from cxr_gan.gan import build


@pytest.fixture(scope="session")
def config():
    """The published run, shrunk; frozen: change a `ConfigDict(config)` of your own."""
    return FrozenConfigDict(tiny.tiny_config())


@pytest.fixture(scope="session")
def gan(config):
    return build(config, tiny.CLASS_NAMES)


@pytest.fixture(scope="session")
def state(gan):
    """The state a run begins with, on the host: NumPy arrays."""
    return tiny.fresh_state(gan)


@pytest.fixture(scope="session")
def batch(config):
    """One global batch, on the host: {"image": uint8 [64, 32, 32, 1], "label": [64]}."""
    return tiny.tiny_batch(config)


@pytest.fixture(scope="session")
def compiled_step(gan):
    """The step of `gan`, compiled once for all tests, for 8 devices."""
    return parallel.compile_step(gan)


@pytest.fixture(scope="session")
def play():
    """play(devices, optimizer, rounds): `tiny.either_gan()` after so many rounds.

    Returns its state and the last metrics, on the host.
    """
    game = tiny.either_gan()
    batch = tiny.tiny_batch(tiny.tiny_config(16))
    start = tiny.fresh_state(game)
    step = parallel.compile_step(game)

    def learning_by(optimizer, player):
        _, memory = player.opt_state
        return player.replace(opt_state=(np.float32(optimizer == "adam"), memory))

    @functools.cache
    def play(devices, optimizer, rounds):
        state = start.replace(
            discriminator=learning_by(optimizer, start.discriminator),
            generator=learning_by(optimizer, start.generator),
        )
        own = jax.local_devices()[:devices]
        state, rng = jax_utils.replicate((state, tiny.key(1)), own, "batch")
        share = {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in batch.items()}
        for _ in range(rounds):
            state, metrics = step(state, share, rng)
        return parallel.unreplicate((state, metrics))

    return play
