"""JAX settings of the environment, of the caller, and in forked processes."""

import contextlib
import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_generator

import cxr_gan
from cxr_gan.evaluation.metrics import label_classifier
from cxr_gan.runtime import cli, jax_config
from cxr_gan.training import restore, train

OTHERS = {
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_transfer_guard": "disallow",
    "jax_debug_nans": True,
    "jax_random_seed_offset": 7,
}
LABELS = [0, 1] * 10  # of three chunks


@pytest.fixture
def other_settings():
    """All settings as an environment, or a program, may have them."""
    before = {name: jax.config.values[name] for name in OTHERS}
    with contextlib.ExitStack() as stack:
        for name, value in before.items():
            stack.callback(jax.config.update, name, value)
        for name, value in OTHERS.items():
            jax.config.update(name, value)
        yield


@pytest.fixture(scope="module")
def params():
    return tiny_generator.params()


@pytest.fixture(scope="module")
def images(params):
    """What `sample` returns, and returns within jit, with JAX's own settings."""
    return [np.asarray(images) for images in sample_twice(params)]


def sample_twice(params):
    """Outside jit and within it."""

    @jax.jit
    def sample(factor):
        return cxr_gan.sample(params, LABELS, 3, truncation=factor)

    return cxr_gan.sample(params, LABELS, 3), sample(np.float64(1))


def test_settings_of_jax_change_no_image_and_stay_as_the_caller_set_them(
    params, images, other_settings
):
    with jax.transfer_guard("allow"):  # the caller's own transfers
        found = sample_twice(params)
        assert [x.dtype for x in found] == [np.float32] * 2
        np.testing.assert_array_equal(found[0], images[0])
        np.testing.assert_array_equal(found[1], images[1])
    assert {name: jax.config.values[name] for name in OTHERS} == OTHERS
    assert jnp.arange(3, dtype=float).dtype == np.float64


def test_settings_are_pinned_within_the_block_alone(other_settings):
    own = {**jax_config.NUMERICS, **jax_config.STRICTNESS}

    def current():
        return {name: getattr(jax.config, f"jax_{name}") for name in own}

    before = current()
    with jax_config.pinned():
        assert current() == own
    assert current() == before != own


def test_settings_of_jax_change_neither_noise_nor_classifier(other_settings):
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), np.uint8)

    def results():
        with jax_config.pinned():
            fitted = label_classifier.fit(images, np.arange(8) % 2, 2, 5, steps=1)
            keys = restore.make_keys(5, 1)
            return jax.tree.map(np.asarray, (fitted, [*map(jax.random.key_data, keys)]))

    found = results()
    jax.config.update("jax_random_seed_offset", 0)
    jax.config.update("jax_default_prng_impl", "threefry2x32")
    expected = results()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_noise_of_training_is_that_of_a_key_of_jax():
    """Runs that were begun before the implementation was pinned continue."""
    init_key, noise_key = jax.random.split(jax.random.key(5))
    found = restore.make_keys(5, 1)
    assert found[0] == init_key and found[1] == jax.random.fold_in(noise_key, 1)


@pytest.mark.parametrize("platforms", ["cuda", "cuda,cpu", "cudda"])
def test_platform_that_is_absent_is_named_before_any_work(
    monkeypatch, capsys, tmp_path, platforms
):
    def unavailable():
        assert platforms != "cuda"  # as JAX does where it finds no GPU
        raise RuntimeError("Unable to initialize backend")

    @cli.command(example="--a=b")
    def command(_):
        pytest.fail("the command began")

    config = types.SimpleNamespace(values={"jax_platforms": platforms})
    fake = types.SimpleNamespace(config=config, devices=unavailable)
    jax_config.require_platform.cache_clear()
    monkeypatch.setattr(jax_config, "jax", fake)
    assert command(["x"], None) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: JAX_PLATFORMS={platforms}: JAX finds no such plat")
    assert error.count("\n") == 1
    with pytest.raises(ValueError, match="or set JAX_PLATFORMS=cpu"):
        cxr_gan.load("pediatric64")
    with pytest.raises(train.SetupError, match="or set JAX_PLATFORMS=cpu"):
        cxr_gan.train("configs/quick.py", tmp_path / "run")
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.parametrize("call", ["sample", "load"])
def test_use_in_a_forked_process_is_an_error_that_says_spawn(params, images, call):
    arguments = {"sample": (params, LABELS, 3), "load": ("pediatric64",)}[call]
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            getattr(cxr_gan, call)(*arguments)
        except RuntimeError as error:
            os.write(write, str(error).encode())
        os._exit(0)  # without pytest's end
    os.close(write)
    with os.fdopen(read) as pipe:
        message = pipe.read()
    os.waitpid(child, 0)
    assert f"fork of process {os.getpid()}, which used JAX" in message
    assert 'multiprocessing.get_context("spawn")' in message
