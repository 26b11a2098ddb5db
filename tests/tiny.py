"""Tiny GANs that use every rule of the training step, for tests and subprocesses."""

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

from cxr_gan import config as configs
from cxr_gan.training import data_parallel, gan, train_state, train_step

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
CLASS_NAMES = ("NORMAL", "PNEUMONIA")


def load_config(name: str) -> ConfigDict:
    """What configs/NAME.py returns."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def tiny_config(resolution: int = 32) -> ConfigDict:
    """The default configuration, shrunk to compile in seconds; fits 8 devices."""
    config = load_config("acgan")
    config.resolution = resolution
    config.latent_size = 8
    config.batch_size = 64
    config.stddev_group_per_class = 2  # two groups on each of 8 devices
    config.generator.update(features_at_32=8, max_features=8, class_embedding_dim=4)
    config.discriminator.update(features_at_32=8, max_features=8)
    config.loss.r1_interval = 2
    config.eval_kimg = 0.0
    return config


def tiny_batch(config: ConfigDict | configs.Config) -> dict[str, np.ndarray]:
    """A global batch of noise, classes interleaved; class 1 is brighter."""
    n, s, k = config.batch_size, config.resolution, len(CLASS_NAMES)
    label = np.arange(n, dtype=np.int32) % k
    noise = np.random.default_rng(0).integers(0, 200, (n, s, s, 1))
    image = (noise + 50 * label[:, None, None, None]).astype(np.uint8)
    return {"image": image, "label": label}


def build(config: ConfigDict) -> gan.GanDefinition:
    """The GAN of an unfrozen configuration, for CLASS_NAMES."""
    return gan.build_gan(configs.freeze(config), CLASS_NAMES)


def sgd_or_adam_gan() -> gan.GanDefinition:
    """A GAN with every loss term, trained by either SGD or Adam.

    The choice is an array in the optimizer state, so both share one compilation.
    """
    config = tiny_config(16)
    config.loss.pair_weight = 0.5
    config.augment.cutout = 0.5
    config.loss.r1_weight = 0.00625  # with SGD, its gradient is like that of the others
    # The spectrum loss rounds images to grey levels, so that rounding changes its
    # gradient.
    config.loss.spectrum_weight = 0.001
    config.total_kimg, config.lr_decay_fraction = 1.28, 1.0
    definition = build(config)
    sgd, adam = optax.sgd(0.05), optax.adam(0.02, b1=0.0, b2=0.99)

    def init(params):
        return jnp.zeros(()), adam.init(params)

    def update(grads, opt_state, params):
        is_adam, opt_state = opt_state
        by_adam, opt_state = adam.update(grads, opt_state, params)
        by_sgd, _ = sgd.update(grads, sgd.init(params), params)
        choose = functools.partial(jnp.where, is_adam > 0)
        return jax.tree.map(choose, by_adam, by_sgd), (is_adam, opt_state)

    either = optax.GradientTransformation(init, update)
    return dataclasses.replace(definition, optimizer_d=either, optimizer_g=either)


def initial_state(definition: gan.GanDefinition) -> train_state.TrainState:
    """The initial state of a run, on the host."""
    create = functools.partial(train_state.create_train_state, definition)
    return jax.device_get(jax.jit(create)(key(0)))


def with_noise(
    state: train_state.TrainState, deviation: float = 0.05
) -> train_state.TrainState:
    """The state with noise in all parameters, some of which are initially 0 or 1."""
    rng = np.random.default_rng(0)

    def noisy(params):
        return jax.tree.map(
            lambda x: x + deviation * rng.standard_normal(x.shape, np.float32), params
        )

    params = noisy(state.generator.params)
    return state.replace(
        generator=state.generator.replace(params=params),
        discriminator=state.discriminator.replace(
            params=noisy(state.discriminator.params)
        ),
        ema=params,
    )


def key(seed: int) -> jax.Array:
    return jax.random.key(seed)


class TinyTraining:
    """`sgd_or_adam_gan()`, its initial state, a batch, and steps on several devices."""

    def __init__(self) -> None:
        self.gan = sgd_or_adam_gan()
        self.initial = with_noise(initial_state(self.gan))
        self.batch = tiny_batch(tiny_config(16))
        self.rng = key(1)
        self.step = functools.cache(self._compile)
        self.train = functools.cache(self._train)

    def initial_with(self, optimizer: str) -> train_state.TrainState:
        """The initial state of networks trained by "sgd" or "adam"."""

        def network(state: train_state.NetworkState) -> train_state.NetworkState:
            _, opt_state = state.opt_state
            is_adam = np.float32(optimizer == "adam")
            return state.replace(opt_state=(is_adam, opt_state))

        return self.initial.replace(
            discriminator=network(self.initial.discriminator),
            generator=network(self.initial.generator),
        )

    def _compile(self, devices: int) -> data_parallel.Step:
        """The step on so many of this process's devices."""
        if devices == jax.local_device_count():
            size = len(self.batch["label"])
            return data_parallel.compile_step(self.gan, self.initial, size)
        step = functools.partial(train_step.train_step, self.gan)
        return jax.pmap(step, train_step.AXIS)

    def _train(self, devices: int, optimizer: str, steps: int):
        """The state after so many steps and the last metrics, on the host."""
        own = jax.local_devices()[:devices]
        state = self.initial_with(optimizer)
        state, rng = jax_utils.replicate((state, self.rng), own, train_step.AXIS)
        shards = {
            k: v.reshape(devices, -1, *v.shape[1:]) for k, v in self.batch.items()
        }
        for _ in range(steps):
            state, metrics = self.step(devices)(state, shards, rng)
        return jax.tree.map(lambda x: np.asarray(x)[0], (state, metrics))
