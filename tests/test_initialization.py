"""A run that starts from trained networks: other classes, larger images."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cxr_gan import config as configs
from cxr_gan.models.layers import downsample, upsample
from cxr_gan.sampling import training_images
from cxr_gan.training import experiment, gan, initialization, loop, train_state

Ancestor = initialization.Ancestor


def trained(state: train_state.TrainState, definition: gan.GanDefinition) -> Ancestor:
    """Networks as if they were trained: no parameter has its initial value."""
    state = tiny.with_noise(state, 0.1)
    return Ancestor(
        name="old",
        generator=state.generator.params,
        ema=jax.tree.map(lambda x: 0.9 * x, state.ema),
        discriminator=state.discriminator.params,
        config=gan.generator_config(definition.config, tiny.CLASS_NAMES),
        discriminator_settings=configs.to_json(definition.config.discriminator),
        ancestors=("0123",),
        training_images=training_images.digests(np.zeros((1, 32, 32, 1), np.uint8)),
    )


def fresh(class_names=tiny.CLASS_NAMES, **keys):
    """A definition of 32 px unless keys say otherwise, its config, and its state."""
    config = tiny.tiny_config()
    config.update(keys)
    definition = gan.build_gan(configs.freeze(config), class_names)
    return definition, tiny.initial_state(definition)


@pytest.fixture(scope="module")
def old() -> Ancestor:
    definition, state = fresh()
    return trained(state, definition)


def start(old: Ancestor, class_names=tiny.CLASS_NAMES, **keys):
    """The definition and the initial state of a run that starts from `old`."""
    definition, state = fresh(class_names, **{"init": "old", **keys})
    initialization.check(old, definition, class_names)
    return definition, initialization.transfer(
        old, definition.config, class_names, state
    )


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_same_classes_and_size_start_as_the_trained_networks(old):
    _, state = start(old)
    assert_equal(state.generator.params, old.generator)
    assert_equal(state.discriminator.params, old.discriminator)
    assert_equal(state.ema, old.ema)
    assert int(state.step) == 0


def test_classes_are_matched_by_name_and_new_ones_start_from_those_named(old):
    names = "VIRAL", "PNEUMONIA", "NORMAL", "OTHER"
    _, state = start(old, names, init_classes="VIRAL=PNEUMONIA", batch_size=64)
    table = old.generator["Embed_0"]["embedding"]
    expected = [table[1], table[1], table[0], table.mean(0)]
    found = state.generator.params["Embed_0"]["embedding"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    head, new = old.discriminator["pathology"], state.discriminator.params["pathology"]
    for key in ("kernel", "bias"):
        normal, pneumonia = np.moveaxis(head[key], -1, 0)
        expected = [pneumonia, pneumonia, normal, (normal + pneumonia) / 2]
        np.testing.assert_allclose(np.moveaxis(new[key], -1, 0), expected, rtol=1e-6)
    assert_equal(state.discriminator.params["stem_32"], old.discriminator["stem_32"])


def test_larger_images_start_as_the_smaller_ones_enlarged(old):
    small, _ = fresh()
    large, state = start(old, resolution=64, base_resolution=32)
    z = jax.random.normal(jax.random.key(0), (4, small.latent_size))
    label = jnp.array([0, 1, 0, 1])
    expected = jnp.arctanh(jax.jit(small.generate)(old.ema, z, label))
    expected = upsample(expected)
    found = jax.jit(large.generate)(state.ema, z, label)
    np.testing.assert_allclose(found, jnp.tanh(expected), atol=1e-4)


def test_larger_images_have_the_scores_of_downsampled_ones(old):
    small, _ = fresh()
    large, state = start(old, resolution=64, base_resolution=32)
    images = jax.random.uniform(jax.random.key(1), (4, 64, 64, 1))
    found = jax.jit(large.discriminate)(state.discriminator.params, images)
    expected = jax.jit(small.discriminate)(old.discriminator, downsample(images))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_networks_grow_twice(old):
    middle, state = start(old, resolution=64, base_resolution=32)
    grown = trained(state, middle)
    large, state = start(grown, resolution=128, base_resolution=32)
    z = jax.random.normal(jax.random.key(0), (2, middle.latent_size))
    label = jnp.array([0, 1])
    expected = upsample(jnp.arctanh(jax.jit(middle.generate)(grown.ema, z, label)))
    found = jax.jit(large.generate)(state.ema, z, label)
    np.testing.assert_allclose(found, jnp.tanh(expected), atol=1e-4)
    images = jax.random.uniform(jax.random.key(1), (4, 128, 128, 1))
    found = jax.jit(large.discriminate)(state.discriminator.params, images)
    smaller = downsample(images)
    expected = jax.jit(middle.discriminate)(grown.discriminator, smaller)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"resolution": 64}, "type --config.base_resolution=32$"),
        ({"latent_size": 9}, "type --config.latent_size=8$"),
        (
            {"init_classes": "VIRAL=PNEUMONIA"},
            "'VIRAL' is not one of NORMAL, PNEUMONIA",
        ),
        ({"init_classes": "NORMAL=COVID"}, "'COVID' is not one of NORMAL, PNEUMONIA"),
        ({"init_classes": "NORMAL"}, "init_classes='NORMAL': 'NORMAL' must be one"),
    ],
)
def test_mismatch_is_refused_with_the_flags_to_type(old, keys, message):
    config = tiny.tiny_config()
    config.update({"init": "old", **keys})
    with pytest.raises(ValueError, match=message):
        initialization.check(old, tiny.build(config), tiny.CLASS_NAMES)


def test_smaller_images_and_other_widths_are_refused(old):
    config = tiny.tiny_config()
    config.generator.max_features = 16
    config.discriminator.features_at_32 = 16
    with pytest.raises(
        ValueError,
        match=r"type --config.generator.max_features=8 "
        r"--config.discriminator.features_at_32=8$",
    ):
        initialization.check(old, tiny.build(config), tiny.CLASS_NAMES)
    large = dataclasses.replace(
        old, config=dataclasses.replace(old.config, resolution=64)
    )
    with pytest.raises(ValueError, match=r"more than resolution=32; type .*=64"):
        initialization.check(large, tiny.build(tiny.tiny_config()), ("A", "B"))
    lacking = dataclasses.replace(
        old, discriminator=old.discriminator | {"gone": {"bias": np.zeros(3)}}
    )
    with pytest.raises(ValueError, match=r"gone/bias has .* \(3,\), this run expects"):
        initialization.check(lacking, tiny.build(tiny.tiny_config()), tiny.CLASS_NAMES)


def test_networks_of_a_run_are_those_of_its_checkpoint(
    open_run, final_checkpoint, tmp_path
):
    run = open_run(tmp_path / "run")
    experiment.write_training_images(run)
    loop.train(run)
    state, _ = final_checkpoint(run)
    found = initialization.load(str(run.folder))
    assert_equal(found.generator, state.generator.params)
    assert_equal(found.discriminator, state.discriminator.params)
    assert_equal(found.ema, state.ema)
    assert found.config == run.generator_config
    assert len(found.ancestors) == 1
    known, train = found.training_images, run.dataset.train
    assert training_images.contains(known, train.images).all()
    assert not training_images.contains(known, run.dataset.val.images).any()


def test_run_records_what_it_starts_from_and_needs_it_for_its_first_checkpoint_only(
    old, monkeypatch, tmp_path
):
    monkeypatch.setattr(initialization, "load", lambda name: {"x/old": old}[name])
    config = tiny.tiny_config()
    config.update({"init": "x/old", "dataset": "phantom:80"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "run"
    run = experiment.open_run(config, folder)
    assert run.ancestor is old
    record = json.loads((folder / "run.json").read_text())
    assert (record["ancestors"], record["config"]["init"]) == (["0123"], "old")
    known = training_images.read(str(folder))
    assert training_images.count_others(known[32], run.dataset.train.images) == 1
    newer = dataclasses.replace(old, ancestors=("4567",))
    monkeypatch.setattr(initialization, "load", lambda _: newer)
    experiment.open_run(config, folder)
    (folder / "checkpoints/1").mkdir(parents=True)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = experiment.open_run(config, folder)
    assert (run.ancestor, run.ancestors) == (None, ("4567",))
    config.init = "other"
    with pytest.raises(ValueError, match="init: 'old' -> 'other'"):
        experiment.open_run(config, folder)
