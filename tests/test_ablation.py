"""benchmarks.ablation: its variants, what is trained when, and what is reported."""

import functools
import math

import benchmark_command
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from benchmarks import ablation, ablation_variants
from cxr_gan import config as configs
from cxr_gan.models import registry
from cxr_gan.models.discriminator import Discriminator
from cxr_gan.models.generator import Generator
from cxr_gan.storage import lock

GROUP_SIZE, CLASSES, CHANNELS = 4, 2, (8, 8)

# Variants


@pytest.mark.parametrize("variant", ablation_variants.VARIANTS)
def test_variant_differs_from_the_default_only_in_its_changes(variant):
    changed = ablation_variants.apply_variant(variant, configs.published())
    old, new = configs.flatten(configs.published()), configs.flatten(changed)
    differing = {key for key in old if old[key] != new[key]}
    assert differing == ablation_variants.VARIANTS[variant].keys()
    changed.generator.name = changed.discriminator.name = "resnet"
    configs.check(changed)


def build(network):
    """A generator or discriminator, and params that are all non-zero."""
    if issubclass(network, Generator):
        module, inputs = network(CLASSES, CHANNELS, 4), latents()
    else:
        module, inputs = network(CLASSES, CHANNELS, GROUP_SIZE), (images(),)
    params = jax.jit(module.init)(tiny.key(0), *inputs)["params"]
    noise = np.random.default_rng(0)
    return module, jax.tree.map(
        lambda p: p + 0.1 * noise.standard_normal(p.shape, np.float32), params
    )


def latents():
    z = jax.random.normal(tiny.key(1), (GROUP_SIZE, 8))
    return z, jnp.arange(GROUP_SIZE) % CLASSES


def images():
    return jax.random.normal(tiny.key(2), (GROUP_SIZE, 16, 16, 1))


@functools.partial(jax.jit, static_argnums=0)
def output(module, params, others=None):
    """Images of a generator; scores of a discriminator, of the same first image."""
    if isinstance(module, Generator):
        return module.apply({"params": params}, *latents())
    given = images() if others is None else images().at[1:].set(others)
    return module.apply({"params": params}, given).score


@pytest.mark.parametrize(
    ("network", "variant"),
    [
        (Generator, ablation_variants.GENERATORS["no norm"]),
        (Discriminator, ablation_variants.DISCRIMINATORS["no norm"]),
    ],
)
def test_network_without_norm_leaves_the_library_unchanged(network, variant):
    module, params = build(network)
    before = output(module, params)
    fields = list(network.__dataclass_fields__)[:3]
    altered = variant(*(getattr(module, name) for name in fields))
    assert np.abs(output(altered, params) - before).max() > 1e-3
    np.testing.assert_array_equal(output(module, params), before)


@pytest.mark.parametrize(
    ("network", "variants"),
    [
        (Generator, ablation_variants.GENERATORS),
        (Discriminator, ablation_variants.DISCRIMINATORS),
    ],
)
def test_without_emphasis_the_same_parameters_give_another_output(network, variants):
    module, params = build(network)
    altered, _ = build(variants["no emphasis"])
    assert np.abs(output(altered, params) - output(module, params)).max() > 1e-3


def test_without_group_deviation_each_image_is_scored_independently():
    def change_of_first_score(network):
        module, params = build(network)
        return np.abs(output(module, params, 0.5) - output(module, params))[0]

    assert change_of_first_score(Discriminator) > 1e-4
    alone = ablation_variants.DISCRIMINATORS["no deviation"]
    assert change_of_first_score(alone) < 1e-6


# One run


@pytest.fixture
def train(monkeypatch, open_run, training):
    """train(folder, change): trains a tiny run, with `change(state)` as its start."""
    fake = ({"fid/cxr": 2.0}, {"metrics": {"eval/kid": 0.5}})
    monkeypatch.setattr(ablation.sampler, "load_with_meta", lambda folder: fake)
    monkeypatch.setattr(ablation, "distances_to_half_b", lambda params, config: params)

    def train(folder, change=lambda state: state):
        initial = change(training.initial)
        monkeypatch.setattr(ablation.loop, "init_train_state", lambda *_: initial)
        monkeypatch.setattr(
            ablation.experiment, "open_run", lambda _, folder: open_run(folder)
        )
        return ablation.train_and_measure(tiny.tiny_config(16), folder)

    return train


def test_finished_run_is_measured_once(train, tmp_path, monkeypatch):
    expected = {"eval/kid": 0.5, "fid/cxr": 2.0}
    assert train(tmp_path) == expected
    monkeypatch.setattr(ablation.loop, "train", None)
    assert train(tmp_path) == expected


def test_run_with_nan_has_no_metrics(train, tmp_path):
    def with_nan(state):
        params = jax.tree.map(lambda p: p * np.nan, state.generator.params)
        return state.replace(generator=state.generator.replace(params=params))

    assert train(tmp_path, with_nan) == {}
    assert train(tmp_path) == {}


# The command


@pytest.fixture
def trained(monkeypatch):
    """Replaces training; the list of (R1, seed) of the runs so far."""
    runs = []

    def train_and_measure(config, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with lock.acquire(folder):
            runs.append((config.loss.r1_weight, config.seed))
            return metrics(2.0 + len(runs) / 100)

    monkeypatch.setattr(ablation, "train_and_measure", train_and_measure)
    monkeypatch.setattr(registry, "GENERATORS", dict(registry.GENERATORS))
    monkeypatch.setattr(registry, "DISCRIMINATORS", dict(registry.DISCRIMINATORS))
    monkeypatch.setattr(ablation.process, "enable_compilation_cache", lambda: None)
    return runs


def metrics(fid, texture=1.0):
    """The metrics of a finished run."""
    rest = {name: 0.5 for name, _ in ablation.COLUMNS.values()}
    return {**rest, "fid/cxr": fid, "fid/texture": texture}


def test_all_variants_get_a_seed_before_any_gets_the_next(trained, tmp_path, capsys):
    command = (ablation, f"--workdir={tmp_path}", "--only=default,no R1")
    assert benchmark_command.run(*command, "--config.loss.r1_weight=0.3") == 0
    assert trained == [(0.3, 0), (0.0, 0), (0.3, 1), (0.0, 1)]
    assert "| no R1 | +0 % |" in capsys.readouterr().out


def test_run_that_another_process_trains_is_skipped(trained, tmp_path):
    folder = tmp_path / "no_r1" / "0"
    folder.mkdir(parents=True)
    with lock.acquire(folder):
        command = (ablation, f"--workdir={tmp_path}", "--only=default,no R1")
        assert benchmark_command.run(*command) == 0
    assert trained == [(0.1, 0), (0.1, 1), (0.0, 1)]


def test_unknown_variant_is_refused(trained, capsys):
    assert benchmark_command.run(ablation, "--only=no R2") == 1
    message = "--only=no R2: no such variant; did you mean no R1?"
    assert message in capsys.readouterr().err
    assert not trained


# Results


def test_effect_combines_both_distances_and_error_the_noise_of_all_seeds():
    records = {
        "default": [metrics(1.0), metrics(math.e**0.2)],
        "hinge": [metrics(math.e**2, math.e**2), metrics(math.e**2.2, math.e**2)],
    }
    hinge, default = ablation.effects(records)
    assert (hinge.variant, default.variant) == ("hinge", "default")
    assert hinge.mean == pytest.approx(2)
    assert hinge.error == pytest.approx(0.1 / math.sqrt(2))
    assert hinge.is_significant and not default.is_significant


def test_table_shows_significant_effects_and_runs_that_became_nan():
    records = {
        "default": [metrics(1.0), metrics(1.1)],
        "hinge": [metrics(4.0), metrics(4.4)],
        "no R1": [metrics(1.05), {}],
        "logistic": [{}, {}],
    }
    text = ablation.table(records)
    assert "| hinge | **+100 %** | 4.20 | 1.000 |" in text
    assert text.count("| 1 of 2 |") == text.count("| 0 of 2 |") == 1


@pytest.mark.parametrize(
    "records",
    [{"default": [metrics(1.0)]}, {"hinge": [metrics(1.0), metrics(2.0)]}],
)
def test_effects_need_repeated_runs_and_the_default(records):
    with pytest.raises(ValueError, match="needs a variant with two finite runs"):
        ablation.effects(records)
