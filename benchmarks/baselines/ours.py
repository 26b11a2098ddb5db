"""cxr_gan as a run trains it: the same compiled step and the same sampling."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.baselines.published import CLASS_NAMES, benchmark_config
from benchmarks.baselines.settings import Settings
from cxr_gan import config as configs
from cxr_gan.data import Dataset, ImageSet
from cxr_gan.runtime import cpu, process
from cxr_gan.sampling import sampler
from cxr_gan.training import data_parallel
from cxr_gan.training.experiment import Run
from cxr_gan.training.gan import build_gan
from cxr_gan.training.loop import init_train_state


class Ours:
    """A run without its data pipeline, metrics and checkpoints."""

    def __init__(self, config: ConfigDict, image: np.ndarray, label: np.ndarray):
        images = ImageSet(image, label, tuple(map(str, range(len(label)))))
        dataset = Dataset(images, images, CLASS_NAMES, "noise")
        frozen = configs.freeze(config)
        gan = build_gan(frozen, CLASS_NAMES)
        run = Run(frozen, pathlib.Path(), dataset, gan)
        state = init_train_state(run, jax.random.key(0))
        self._step = data_parallel.compile_step(gan, state, frozen.batch_size)
        self._state, self._key = data_parallel.replicate((state, jax.random.key(1)))
        self._batch = data_parallel.shard({"image": image, "label": label})
        params = jax.tree.map(jnp.asarray, state.ema)  # JAX arrays, as `load` returns
        self._params = sampler.GeneratorParams(params, run.generator_config)

    def train(self, steps: int) -> None:
        """Dispatches steps asynchronously, as the training loop does, and waits."""
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch, self._key)
        jax.block_until_ready((self._state, metrics))

    def sample(self, count: int) -> np.ndarray:
        """Images of `cxr_gan.sample`, of the initial weights."""
        labels = np.arange(count) % len(CLASS_NAMES)
        return np.asarray(sampler.sample(self._params, labels, 0))


def build(settings: Settings, cores: int, compute_dtype: str = "float32") -> Ours:
    """cxr_gan on one device per core, as in `cxr_gan.main`."""
    cpu.set_xla_cpu_flags()
    process.enable_compilation_cache()
    process.tune_malloc()
    process.set_cpu_device_count(num_groups=settings.batch_size // settings.group_size)
    if jax.local_device_count() != cores:
        raise ValueError(f"JAX has {jax.local_device_count()} devices, not {cores}")
    config = benchmark_config(settings.batch_size, settings.resolution)
    config.compute_dtype = compute_dtype
    return Ours(config, *settings.batch())
