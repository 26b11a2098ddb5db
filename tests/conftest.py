import dataclasses
import os
import pathlib

import jax
import pytest
import tiny
import tiny_runs

from cxr_gan import config as configs
from cxr_gan import data
from cxr_gan.runtime import cpu
from cxr_gan.storage import checkpoint
from cxr_gan.training import loop
from cxr_gan.training.experiment import Run
from cxr_gan.training.train_state import TrainState

ROOT = pathlib.Path(__file__).parents[1]

cpu.set_xla_cpu_flags()  # as `cxr_gan.main` does
jax.config.update("jax_num_cpu_devices", 8)  # no import above may use a device
jax.config.update("jax_disable_most_optimizations", True)  # compile time dominates

# A program is compiled once for all processes and sessions of pytest. A maximum size
# makes JAX lock the folder. Tests that kill processes give them another folder.
CACHE = {
    "jax_compilation_cache_dir": str(ROOT / ".pytest_cache" / "xla"),
    "jax_compilation_cache_max_size": 2**30,
    "jax_persistent_cache_min_compile_time_secs": 0.5,
}
for name, value in CACHE.items():
    os.environ.setdefault(name.upper(), str(value))
    jax.config.update(name, value)


@pytest.fixture(scope="session")
def config():
    """The default configuration, shrunk and frozen."""
    return configs.freeze(tiny.tiny_config())


@pytest.fixture(scope="session")
def gan():
    return tiny.build(tiny.tiny_config())


@pytest.fixture(scope="session")
def state(gan):
    """The initial state of a run, on the host: NumPy arrays."""
    return tiny.initial_state(gan)


@pytest.fixture(scope="session")
def batch(config):
    """One global batch: {"image": uint8 [64, 32, 32, 1], "label": int32 [64]}."""
    return tiny.tiny_batch(config)


@pytest.fixture(scope="session")
def training():
    """`tiny.TinyTraining()`, compiled once for all tests."""
    return tiny.TinyTraining()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    full = data.load("phantom:60", 32, split_seed=0, cache_dir=cache)
    halved = dataclasses.replace(full.train, images=full.train.images[:, ::2, ::2])
    return dataclasses.replace(full, train=halved)


@pytest.fixture(scope="module")
def open_run(phantoms, training, compiled_once):
    """open_run(folder, **schedule): a run of `training.gan` on 60 phantoms."""

    def open_run(folder, **schedule):
        config = tiny.tiny_config(16)
        config.update({**tiny_runs.SCHEDULE, **schedule})
        folder.mkdir(exist_ok=True)
        return Run(configs.freeze(config), folder, phantoms, training.gan)

    return open_run


@pytest.fixture(scope="module")
def compiled_once(training):
    with pytest.MonkeyPatch.context() as patch:
        step = training.step(jax.local_device_count())
        patch.setattr(loop.data_parallel, "compile_step", lambda *_: step)
        patch.setattr(loop, "init_train_state", lambda *_: training.initial)
        yield


@pytest.fixture
def on_batch(monkeypatch):
    """on_batch(action): calls action(step) before that step's batch is returned."""
    make_train_iterator = loop.make_train_iterator

    def install(action):
        def iterate(run, first):
            batches = make_train_iterator(run, first)
            for step, batch in enumerate(batches, start=first + 1):
                action(step)
                yield batch

        monkeypatch.setattr(loop, "make_train_iterator", iterate)

    return install


@pytest.fixture(scope="module")
def final_checkpoint(training):
    """final_checkpoint(run): the newest state on disk and its metadata."""

    def final_checkpoint(run):
        with checkpoint.Checkpoints(run.folder) as checkpoints:
            items, metadata = checkpoints.restore(training.initial.to_items())
            return TrainState.from_items(items), metadata

    return final_checkpoint
