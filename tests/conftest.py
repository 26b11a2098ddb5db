import dataclasses

import jax
import pytest
import rounds
import tiny
from ml_collections import FrozenConfigDict

from cxr_gan import checkpoint, data, train
from cxr_gan.gan import build
from cxr_gan.models import backend
from cxr_gan.run import Run

backend.ask_compiler()  # as `cxr_gan.main` does
jax.config.update("jax_num_cpu_devices", 8)  # no import above may use a device
jax.config.update("jax_disable_most_optimizations", True)  # we wait for the compiler


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
    """One global batch: {"image": uint8 [64, 32, 32, 1], "label": int32 [64]}."""
    return tiny.tiny_batch(config)


@pytest.fixture(scope="session")
def table():
    """`tiny.either_gan()` with all it takes to play it, compiled once for all tests."""
    return tiny.Table()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    whole = data.load("phantom:60", 32, split_seed=0, cache_dir=cache)
    halved = dataclasses.replace(whole.train, images=whole.train.images[:, ::2, ::2])
    return dataclasses.replace(whole, train=halved)


@pytest.fixture(scope="module")
def open_run(phantoms, table, compiled_once):
    """open_run(folder, **schedule): a run of `tiny.either_gan()` on 60 phantoms."""

    def open_run(folder, **schedule):
        config = tiny.tiny_config(16)
        config.update({**rounds.SCHEDULE, **schedule})
        folder.mkdir(exist_ok=True)
        return Run(config, folder, phantoms, table.game)

    return open_run


@pytest.fixture(scope="module")
def compiled_once(table):
    with pytest.MonkeyPatch.context() as patch:
        step = table.step(jax.local_device_count())
        patch.setattr(train.parallel, "compile_step", lambda *_: step)
        patch.setattr(train, "fresh_state", lambda *_: table.start)
        yield


@pytest.fixture
def feed(monkeypatch):
    """feed(action): action(round) is called before that round's batch is handed out."""
    whole = train.open_feed

    def install(action):
        def open_feed(run, first):
            for done, batch in enumerate(whole(run, first), start=first + 1):
                action(done)
                yield batch

        monkeypatch.setattr(train, "open_feed", open_feed)

    return install


@pytest.fixture(scope="module")
def end_of(table):
    """end_of(run): the newest state on disk, and what is said of it."""

    def end_of(run):
        with checkpoint.Checkpoints(run.folder) as checkpoints:
            return checkpoints.restore(table.start)

    return end_of
