"""The smallest games that play by all the rules, for tests and their subprocesses."""

import dataclasses
import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils
from ml_collections import ConfigDict

from cxr_gan import gan, parallel, state, step

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
CLASS_NAMES = ("NORMAL", "PNEUMONIA")


def load_config(name: str) -> ConfigDict:
    """What configs/NAME.py returns."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def tiny_config(resolution: int = 32) -> ConfigDict:
    """The published run, shrunk until it compiles in seconds; fit for 8 devices."""
    config = load_config("acgan")
    config.resolution = resolution
    config.latent_size = 8
    config.batch_size = 64
    config.group_per_class = 2  # two groups on each of 8 devices
    config.generator.update(features_at_32=8, max_features=8, embedding=4)
    config.discriminator.update(features_at_32=8, max_features=8)
    config.loss.r1_every = 2
    config.evaluate_kimg = 0.0
    return config


def tiny_batch(config: ConfigDict) -> dict[str, np.ndarray]:
    """A global batch of noise, classes interleaved; class 1 is brighter."""
    n, s, k = config.batch_size, config.resolution, len(CLASS_NAMES)
    label = np.arange(n, dtype=np.int32) % k
    noise = np.random.default_rng(0).integers(0, 200, (n, s, s, 1))
    image = (noise + 50 * label[:, None, None, None]).astype(np.uint8)
    return {"image": image, "label": label}


def either_gan() -> gan.Gan:
    """A game with every term of every loss, learning by either SGD or Adam.

    Which of them is an array in the optimizer's memory, so both share one compilation.
    """
    config = tiny_config(16)
    config.loss.feature_matching = 1.0
    config.augment = {"cutout": 0.5}  # one policy will do, and compiles sooner
    game = gan.build(config, CLASS_NAMES)
    sgd, adam = optax.sgd(0.05), optax.adam(0.02, b1=0.0, b2=0.99)

    def init(params):
        return jnp.zeros(()), adam.init(params)

    def update(gradient, memory, params):
        is_adam, memory = memory
        by_adam, memory = adam.update(gradient, memory, params)
        by_sgd, _ = sgd.update(gradient, sgd.init(params), params)
        pick = functools.partial(jnp.where, is_adam > 0)
        return jax.tree.map(pick, by_adam, by_sgd), (is_adam, memory)

    either = optax.GradientTransformation(init, update)
    return dataclasses.replace(game, optimizer_d=either, optimizer_g=either)


def fresh_state(game: gan.Gan) -> state.TrainState:
    """The state a run begins with, on the host."""
    return jax.device_get(jax.jit(functools.partial(state.create_state, game))(key(0)))


def key(seed: int) -> jax.Array:
    return jax.random.key(seed)


class Table:
    """`either_gan()`, its first state and a batch, and the step for so many devices."""

    def __init__(self) -> None:
        self.game = either_gan()
        self.start = fresh_state(self.game)
        self.batch = tiny_batch(tiny_config(16))
        self.rng = key(1)
        self.step = functools.cache(self._compile)
        self.play = functools.cache(self._play)

    def learning_by(self, optimizer: str) -> state.TrainState:
        """The first state, of players that learn by "sgd" or "adam"."""

        def player(fresh: state.Player) -> state.Player:
            _, memory = fresh.opt_state
            return fresh.replace(opt_state=(np.float32(optimizer == "adam"), memory))

        d, g = player(self.start.discriminator), player(self.start.generator)
        return self.start.replace(discriminator=d, generator=g)

    def _compile(self, devices: int) -> parallel.Step:
        """The step for so many of this process's devices."""
        if devices == jax.local_device_count():
            size = len(self.batch["label"])
            return parallel.compile_step(self.game, self.start, size)
        return jax.pmap(functools.partial(step.train_step, self.game), step.AXIS)

    def _play(self, devices: int, optimizer: str, rounds: int):
        """The state after so many rounds and the last metrics, on the host."""
        own = jax.local_devices()[:devices]
        state = self.learning_by(optimizer)
        state, rng = jax_utils.replicate((state, self.rng), own, step.AXIS)
        share = {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in self.batch.items()}
        for _ in range(rounds):
            state, metrics = self.step(devices)(state, share, rng)
        return jax.tree.map(lambda x: np.asarray(x)[0], (state, metrics))
