"""benchmarks.ablation: its variants, what is trained when, and what is reported."""

import dataclasses
import json
import math
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from absl import flags
from flax import linen as nn

from benchmarks import ablation, arms, effects, trial
from cxr_gan import config as configs
from cxr_gan.evaluation.metrics.feature_spaces import FeatureSpace
from cxr_gan.models import registry
from cxr_gan.models.discriminator import Discriminator
from cxr_gan.models.generator import Generator
from cxr_gan.storage import lock

GROUP_SIZE, CLASSES, CHANNELS = 4, 2, (8, 8)
SHIPPED = "residual"

# Variants


@pytest.mark.parametrize("variant", arms.VARIANTS)
def test_variant_differs_from_published_recipe_only_in_its_changes(variant):
    changed = arms.applied(variant, configs.published())
    old, new = configs.flatten(configs.published()), configs.flatten(changed)
    differing = {key for key in old if old[key] != new[key]}
    assert differing == arms.VARIANTS[variant].keys()
    changed.generator.name = changed.discriminator.name = SHIPPED
    configs.check(changed)


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_variants_use_every_network_that_is_not_part_of_the_library(kind, monkeypatch):
    table = getattr(arms, f"{kind.upper()}S")
    library = dict(getattr(registry, f"{kind.upper()}S"))
    monkeypatch.setattr(registry, f"{kind.upper()}S", dict(library))
    used = [changes.get(f"{kind}.name") for changes in arms.VARIANTS.values()]
    assert {*used} == {None, *table}
    arms.register()
    assert getattr(registry, f"{kind.upper()}S") == library | table


def build(network):
    """A generator or discriminator, and params that are all non-zero."""
    if issubclass(network, Generator):
        module, inputs = network(CLASSES, CHANNELS, 4), latents()
    else:
        module, inputs = network(CLASSES, CHANNELS, GROUP_SIZE), (images(),)
    params = module.init(tiny.key(0), *inputs)["params"]
    noise = tiny.key(3)
    return module, jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(noise, p.shape), params
    )


def latents():
    z = jax.random.normal(tiny.key(1), (GROUP_SIZE, 8))
    return z, jnp.arange(GROUP_SIZE) % CLASSES


def images():
    return jax.random.normal(tiny.key(2), (GROUP_SIZE, 16, 16, 1))


def output(module, params):
    """Images of a generator, scores of a discriminator."""
    if isinstance(module, Generator):
        return module.apply({"params": params}, *latents())
    return module.apply({"params": params}, images()).score


@pytest.mark.parametrize(
    ("network", "variant"),
    [
        (Generator, arms.GENERATORS["no norm"]),
        (Generator, arms.GENERATORS["group norm"]),
        (Discriminator, arms.DISCRIMINATORS["no norm"]),
        (Discriminator, arms.DISCRIMINATORS["group norm"]),
    ],
)
def test_other_norm_changes_output_and_leaves_the_library_unchanged(network, variant):
    module, params = build(network)
    before = output(module, params)
    fields = list(network.__dataclass_fields__)[:3]
    altered = variant(*(getattr(module, name) for name in fields))
    assert np.abs(output(altered, params) - before).max() > 1e-3
    np.testing.assert_array_equal(output(module, params), before)


def test_generator_without_detail_has_only_the_smooth_branch():
    _, params = build(arms.GENERATORS["no detail"])
    assert [*params["head"]] == ["smooth"]
    assert [*build(Generator)[1]["head"]] != ["smooth"]


def test_without_group_deviation_each_image_is_scored_independently():
    def change_of_first_score(network):
        module, params = build(network)
        changed = images().at[1:].set(0.5)
        score = module.apply({"params": params}, changed).score
        return np.abs(score - output(module, params))[0]

    assert change_of_first_score(Discriminator) > 1e-4
    assert change_of_first_score(arms.DISCRIMINATORS["no deviation"]) < 1e-6


@pytest.mark.parametrize("name", ["spectral", "spectral, no norm"])
def test_spectral_norm_makes_output_independent_of_kernel_scale(name):
    module, params = build(arms.DISCRIMINATORS[name])
    larger = jax.tree.map(lambda p: 3 * p if p.ndim > 1 else p, params)
    np.testing.assert_allclose(
        output(module, larger), output(module, params), rtol=1e-4
    )


def test_spectral_norm_gives_a_largest_singular_value_of_one():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 4)))[0] for n in (18, 6))
    kernel = (left * [5, 2, 1, 0.5]) @ right.T
    kernel = jnp.asarray(kernel.reshape(3, 3, 2, 6))
    normalized = arms.spectral_norm(kernel).reshape(18, 6)
    assert np.linalg.svd(normalized)[1][0] == pytest.approx(1, rel=1e-4)


def test_projection_scores_an_image_for_the_class_of_its_position():
    module, params = build(arms.DISCRIMINATORS["projection"])
    swapped = module.apply({"params": params}, images()[jnp.array([1, 0, 3, 2])])
    change = swapped.score[jnp.array([1, 0, 3, 2])] - output(module, params)
    projected = swapped.features @ params["projection"]["kernel"]
    gap = (projected[:, 0] - projected[:, 1])[jnp.array([1, 0, 3, 2])]
    sign = jnp.array([-1, 1, -1, 1])  # from class 0 to 1, from 1 to 0
    np.testing.assert_allclose(change, sign * gap, atol=1e-4)


def test_group_norm_agrees_with_flax():
    x = 3 + jax.random.normal(tiny.key(0), (2, 5, 5, 16))
    norm = nn.GroupNorm(arms.GROUPS, epsilon=1e-5, use_bias=False, use_scale=False)
    np.testing.assert_allclose(arms.group_norm(x), norm.apply({}, x), atol=1e-5)


# One run


class FakeReference:
    """Returns constant metrics."""

    def __init__(self):
        self.iterators = []

    def validate(self, params):
        return {"eval/kid": 0.5, "eval/label_accuracy": 1.0}

    def distances(self, params):
        return {"fid/cxr": 2.0}


def test_run_is_validated_during_training_and_measured_at_its_end(open_run, tmp_path):
    run = open_run(tmp_path, eval_kimg=3 * 64 / 1000)
    record = trial.train_and_measure(run, FakeReference())
    assert [kimg for kimg, _ in record["validations"]] == [3 * 0.064, 6 * 0.064]
    assert record["metrics"].keys() == {"eval/kid", "eval/label_accuracy", "fid/cxr"}
    assert record["cpu_seconds"] > 0


def test_run_ends_when_a_parameter_is_nan(open_run, tmp_path, monkeypatch):
    init_train_state = trial.loop.init_train_state

    def with_nan(*arguments):
        state = init_train_state(*arguments)
        params = jax.tree.map(lambda p: p * np.nan, state.generator.params)
        return state.replace(generator=state.generator.replace(params=params))

    monkeypatch.setattr(trial.loop, "init_train_state", with_nan)
    record = trial.train_and_measure(open_run(tmp_path), FakeReference())
    assert record == {"validations": [], "non_finite_at": 0.064}


def test_half_b_has_distance_zero_from_itself(phantoms, monkeypatch):
    """In a space of 4 x 4 means; images of half B in place of generated ones."""

    def means(images):
        return images.reshape(len(images), 4, 4, 4, 4).mean((2, 4)).reshape(-1, 16)

    space = FeatureSpace("means", 16, means)
    monkeypatch.setattr(trial.feature_spaces, "open_space", lambda name: space)
    monkeypatch.setattr(trial.validation, "make_reference", lambda dataset: "reference")
    small = dataclasses.replace(phantoms.val, images=phantoms.val.images[:, ::2, ::2])
    dataset = dataclasses.replace(phantoms, val=small)
    reference = trial.RealReference(dataset)
    half = trial.image_sets.split_reference(dataset).image_groups()["B"]
    selected = half.select((0, 1), reference.per_class, 0)
    images = half.images[selected]
    monkeypatch.setattr(
        trial.sampler, "sample", lambda params, labels, seed: images / np.float32(255)
    )
    params = type("Params", (), {"class_names": ("a", "b")})
    metrics = reference.distances(params)
    n = reference.per_class
    assert half.labels[selected].tolist() == [0] * n + [1] * n
    assert metrics["fid/cxr"] == pytest.approx(0, abs=1e-6)
    assert metrics["recall/texture"] == 1


def test_too_small_val_is_refused(phantoms, monkeypatch):
    monkeypatch.setattr(trial.validation, "make_reference", lambda dataset: None)
    with pytest.raises(ValueError, match="val has too few images"):
        trial.RealReference(phantoms)


# The command


@pytest.fixture
def trained(monkeypatch, phantoms):
    """Replaces training; the list of (discriminator, R1, seed) of the runs so far."""
    runs = []

    def train_and_measure(run, reference):
        config = run.config
        runs.append((config.discriminator.name, config.loss.r1_weight, config.seed))
        return fake_record(2.0 + len(runs) / 100)

    monkeypatch.setattr(trial, "train_and_measure", train_and_measure)
    monkeypatch.setattr(trial, "RealReference", lambda dataset: NoReference(phantoms))
    monkeypatch.setattr(ablation.data, "load", lambda *_, **__: phantoms)
    monkeypatch.setattr(registry, "GENERATORS", dict(registry.GENERATORS))
    monkeypatch.setattr(registry, "DISCRIMINATORS", dict(registry.DISCRIMINATORS))
    monkeypatch.setattr(ablation.process, "enable_compilation_cache", lambda: None)
    return runs


class NoReference:
    def __init__(self, dataset):
        self.dataset = dataset


def fake_record(fid, texture=1.0, last=1.0, recall=0.5):
    """The record of a finished run, without its configuration."""
    rest = {name: 0.5 for name, _ in effects.COLUMNS.values()}
    metrics = {**rest, "fid/cxr": fid, "fid/texture": texture, "recall/cxr": recall}
    validations = [[1, 1.0], [2, last]]
    return {"validations": validations, "metrics": metrics, "cpu_seconds": 60.0}


def command(*arguments):
    values = flags.FlagValues()
    ablation.define_flags(values)
    values(["ablation", "--dataset=phantom:60", *arguments])
    return ablation.main(["ablation"], values)


TWO = "--only=as published,no R1"


def test_compiled_programs_are_released_after_a_run(trained, tmp_path):
    traced = []

    @jax.jit
    def program(x):
        traced.append(x)
        return x + 1

    for _ in range(2):
        program(1.0)
    assert len(traced) == 1
    assert command(TWO, f"--workdir={tmp_path}") == 0
    program(1.0)
    assert len(traced) == 2


def test_all_variants_get_a_seed_before_any_gets_the_next(trained, tmp_path, capsys):
    assert command(f"--workdir={tmp_path}", TWO) == 0
    assert [run[1:] for run in trained] == [(0.1, 0), (0.0, 0), (0.1, 1), (0.0, 1)]
    assert "no R1, seed 1, 60 s: FID, cxr 2.04" in capsys.readouterr().out


def test_finished_run_is_not_trained_again(trained, tmp_path):
    assert command(f"--workdir={tmp_path}", TWO) == 0
    (tmp_path / "sort" / "no_r1" / "1" / "run.json").unlink()
    assert command(f"--workdir={tmp_path}", TWO) == 0
    assert len(trained) == 5


def test_run_that_another_process_trains_is_skipped(trained, tmp_path):
    folder = tmp_path / "sort" / "no_r1" / "0"
    folder.mkdir(parents=True)
    with lock.acquire(folder):
        assert command(f"--workdir={tmp_path}", TWO) == 0
    assert [run[1:] for run in trained] == [(0.1, 0), (0.1, 1), (0.0, 1)]


def test_runs_of_another_length_are_refused(trained, tmp_path, capsys):
    assert command(f"--workdir={tmp_path}", TWO) == 0
    assert command(f"--workdir={tmp_path}", TWO, "--kimg=3") == 1
    error = capsys.readouterr().err
    assert (
        "was trained with another value of eval_kimg, total_kimg; give another" in error
    )
    assert len(trained) == 4


def test_damaged_record_is_named(trained, tmp_path, capsys):
    path = tmp_path / "sort" / "as_published" / "0" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"metrics": ')
    assert command(f"--workdir={tmp_path}", TWO) == 1
    assert f"{path} is damaged" in capsys.readouterr().err
    assert path.read_text() == '{"metrics": '


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only=no R2"], "--only=no R2: no such variant; did you mean no R1?"),
        (["--stage=leave_one_out"], "holds no sort: run --stage=sort first"),
        (["--out=nowhere.md"], "nowhere.md: no such page"),
    ],
)
def test_invalid_command_is_refused_before_any_training(
    arguments, message, trained, tmp_path, capsys
):
    assert command(f"--workdir={tmp_path}", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not trained


def test_leave_one_out_repeats_the_largest_effects_of_the_sort(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(ablation, "LARGEST", 1)
    assert command(f"--workdir={tmp_path}", "--only=as published,no R1,hinge") == 0
    for seed in (0, 1):
        path = tmp_path / "sort" / "no_r1" / str(seed) / "run.json"
        record = json.loads(path.read_text())
        record["metrics"]["fid/cxr"] = 0.1
        path.write_text(json.dumps(record))
    del trained[:]
    assert command(f"--workdir={tmp_path}", "--stage=leave_one_out") == 0
    assert [run[:2] for run in trained[:3]] == [
        (SHIPPED, 0.1),
        ("plain", 0.0),
        (SHIPPED, 0.0),
    ]
    assert len(trained) == 6


@pytest.mark.parametrize(
    ("stage", "images"), [("few", 100), ("few_250", 250), ("few_1000", 1000)]
)
def test_stages_of_few_images_compare_augmentation_only(
    trained, tmp_path, stage, images
):
    assert command(f"--workdir={tmp_path}", f"--stage={stage}") == 0
    paths = tmp_path.glob(f"{stage}/*/0/run.json")
    kept = [json.loads(path.read_text())["config"] for path in paths]
    assert {tuple(config["samples_per_class"]) for config in kept} == {(images,)}
    strengths = {tuple(config["augment"].values()) for config in kept}
    assert len(strengths) == len(kept) == len(arms.FOR_FEW) == 3


def test_page_gets_table_drawing_and_results(trained, tmp_path):
    page = tmp_path / "ablation.md"
    page.write_text("Words.\n<!-- sort -->\n<!-- end of sort -->\n")
    assert command(f"--workdir={tmp_path}", TWO, f"--out={page}") == 0
    assert "| no R1 |" in page.read_text()
    assert "![Effect of each variant](ablation.sort.svg)" in page.read_text()
    assert (tmp_path / "ablation.sort.svg").read_text().startswith("<svg")
    kept = json.loads((tmp_path / "ablation.sort.json").read_text())
    assert {variant: len(runs) for variant, runs in kept.items()} == {
        "as published": 2,
        "no R1": 2,
    }


# Results


def records(**variants):
    size = {"total_kimg": 24.0, "resolution": 32}
    return {
        name.replace("_", " "): [{**size, **run} for run in runs]
        for name, runs in variants.items()
    }


def test_effect_combines_both_distances_and_error_the_noise_of_all_seeds():
    runs = records(
        as_published=[fake_record(1.0), fake_record(math.e**0.2)],
        hinge=[fake_record(math.e**2, math.e**2), fake_record(math.e**2.2, math.e**2)],
    )
    assert effects.noise(runs) == pytest.approx(0.1 / math.sqrt(2))
    hinge, published = effects.effects(runs)
    assert (hinge.variant, published.variant) == ("hinge", "as published")
    assert hinge.each == pytest.approx((1.95, 2.05))
    assert hinge.mean == pytest.approx(2)
    assert hinge.error == pytest.approx(0.1 / math.sqrt(2))
    assert hinge.significant and not published.significant


def test_table_reports_significant_failed_and_unstable_variants():
    runs = records(
        as_published=[fake_record(1.0), fake_record(1.1)],
        hinge=[fake_record(4.0, recall=0.1), fake_record(4.4, last=2.0, recall=0.1)],
        no_R1=[fake_record(1.05), {"validations": [], "non_finite_at": 3.2}],
        logistic=[{"validations": [], "non_finite_at": 1.6}] * 2,
    )
    text = effects.text(runs, "drawing.svg")
    assert "- Worse than as published: hinge.\n" in text
    assert "- Better: none.\n- Within the noise: no R1.\n" in text
    assert "8 runs of about 60 s of CPU time; 3 of them ended with NaN" in text
    assert "1.15 times the best: hinge.\n" in text
    assert "Recall in `cxr` less than half as high: hinge.\n" in text
    assert "| hinge | **+100 %** | 4.20 | 1.000 |" in text
    assert "| 2, 1 NaN |" in text
    assert "| logistic | never finished |" in text
    assert effects.line("no R1", 1, runs["no R1"][1]) == (
        "no R1, seed 1: not finite at 3.2 kimg"
    )


def test_drawing_has_a_dot_for_every_run():
    runs = records(
        as_published=[fake_record(1.0), fake_record(1.1)],
        hinge=[fake_record(4.0), fake_record(4.4)],
    )
    drawing = ElementTree.fromstring(effects.draw(runs))
    assert len(drawing.findall("{*}circle")) == 4


def test_effects_need_repeated_runs_and_the_published_recipe():
    with pytest.raises(ValueError, match="no variant has two finished runs"):
        effects.effects(records(as_published=[fake_record(1.0)]))
    with pytest.raises(ValueError, match="'as published' has no finished run"):
        effects.effects(records(hinge=[fake_record(1.0), fake_record(2.0)]))


def test_largest_effects_are_of_either_sign():
    runs = records(
        as_published=[fake_record(1.0), fake_record(1.1)],
        hinge=[fake_record(4.0)],
        logistic=[fake_record(1.2)],
        no_R1=[fake_record(0.1)],
    )
    assert effects.largest(runs, 2, ["as published"]) == ["no R1", "hinge"]
