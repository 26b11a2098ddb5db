import jax
import pytest
import tiny
from ml_collections import FrozenConfigDict

from cxr_gan.gan import build

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
