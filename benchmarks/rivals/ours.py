"""cxr_gan as a run trains it: the same compiled pmap, the same sampling."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.rivals.published import CLASS_NAMES, measured
from benchmarks.rivals.rules import Rules
from cxr_gan import parallel, sampling
from cxr_gan.data import Dataset, ImageSet
from cxr_gan.gan import build as build_gan
from cxr_gan.models import backend
from cxr_gan.run import Run
from cxr_gan.train import fresh_state


class Ours:
    """A run without its data pipeline, reports and checkpoints."""

    def __init__(self, config: ConfigDict, image: np.ndarray, label: np.ndarray):
        images = ImageSet(image, label, tuple(map(str, range(len(label)))))
        dataset = Dataset(images, images, CLASS_NAMES, "noise")
        game = build_gan(config, CLASS_NAMES)
        run = Run(config, pathlib.Path(), dataset, game)
        state = fresh_state(run, jax.random.key(0))
        self._step = parallel.compile_step(game, state, config.batch_size)
        self._state, self._key = parallel.replicate((state, jax.random.key(1)))
        self._batch = parallel.shard({"image": image, "label": label})
        weights = jax.tree.map(jnp.asarray, state.ema)  # as `load` gives them
        self._params = sampling.GeneratorParams(weights, run.spec)

    def play(self, rounds: int) -> None:
        """Dispatched ahead, as the training loop does, and waited for at the end."""
        for _ in range(rounds):
            self._state, metrics = self._step(self._state, self._batch, self._key)
        jax.block_until_ready((self._state, metrics))

    def sample(self, count: int) -> np.ndarray:
        """`cxr_gan.sample`."""
        labels = np.arange(count) % len(CLASS_NAMES)
        return np.asarray(sampling.sample(self._params, labels, 0))


def build(
    rules: Rules, cores: int, precision: str = "float32", devices: int = 0
) -> Ours:
    """On so many devices; 0: one of each core, as `cxr_gan.main` makes them.

    precision: of the config.
    """
    backend.ask_compiler()
    parallel.keep_compilations()
    parallel.keep_memory()
    if devices:
        jax.config.update("jax_num_cpu_devices", devices)
    parallel.use_cores(shares=rules.batch_size // rules.group)
    made, asked = jax.local_device_count(), devices or cores
    if made != asked:
        raise ValueError(f"{made} devices were made, not {asked}")
    config = measured(rules.batch_size, rules.resolution)
    config.precision = precision
    return Ours(config, *rules.batch())
