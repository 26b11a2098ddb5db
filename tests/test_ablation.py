"""benchmarks.ablation: its arms, what is trained when, and what is told of it."""

import dataclasses
import json
import math
import pathlib
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from absl import flags
from flax import linen as nn

from benchmarks import ablation, arms, effects, pages, trial
from cxr_gan import config as configs
from cxr_gan import gan, lock
from cxr_gan.metrics.features import FeatureSpace
from cxr_gan.models.discriminator import Discriminator
from cxr_gan.models.generator import Generator

DOCS = pathlib.Path(__file__).parents[1] / "docs"
GROUP, CLASSES, WIDTHS = 4, 2, (8, 8)
SHIPPED = "residual"

# Arms


@pytest.mark.parametrize("arm", arms.ARMS)
def test_an_arm_differs_from_the_published_recipe_in_what_it_says_alone(arm):
    changed = arms.applied(arm, configs.published())
    was, now = configs.flatten(configs.published()), configs.flatten(changed)
    assert {key for key in was if was[key] != now[key]} == arms.ARMS[arm].keys()
    changed.generator.name = changed.discriminator.name = SHIPPED
    configs.check(changed)


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_arms_name_every_network_that_is_not_the_library_s_own(kind, monkeypatch):
    table = getattr(arms, f"{kind.upper()}S")
    library = dict(getattr(gan, f"{kind.upper()}S"))
    monkeypatch.setattr(gan, f"{kind.upper()}S", dict(library))
    named = [changes.get(f"{kind}.name") for changes in arms.ARMS.values()]
    assert {*named} == {None, *table}
    arms.register()
    assert getattr(gan, f"{kind.upper()}S") == library | table


def fresh(network):
    """A generator or discriminator, and params of which none is 0."""
    if issubclass(network, Generator):
        module, given = network(CLASSES, WIDTHS, 4), latents()
    else:
        module, given = network(CLASSES, WIDTHS, GROUP), (images(),)
    params = module.init(tiny.key(0), *given)["params"]
    noise = tiny.key(3)
    return module, jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(noise, p.shape), params
    )


def latents():
    return jax.random.normal(tiny.key(1), (GROUP, 8)), jnp.arange(GROUP) % CLASSES


def images():
    return jax.random.normal(tiny.key(2), (GROUP, 16, 16, 1))


def answer(module, params):
    """Images, or realness."""
    if isinstance(module, Generator):
        return module.apply({"params": params}, *latents())
    return module.apply({"params": params}, images()).realness


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (Generator, arms.GENERATORS["no norm"]),
        (Generator, arms.GENERATORS["group norm"]),
        (Discriminator, arms.DISCRIMINATORS["no norm"]),
        (Discriminator, arms.DISCRIMINATORS["group norm"]),
    ],
)
def test_another_norm_answers_otherwise_and_leaves_the_library_as_it_was(own, other):
    module, params = fresh(own)
    before = answer(module, params)
    altered = other(*(getattr(module, name) for name in fields(own)))
    assert np.abs(answer(altered, params) - before).max() > 1e-3
    np.testing.assert_array_equal(answer(module, params), before)


def fields(network):
    return list(network.__dataclass_fields__)[:3]


def test_without_detail_g_has_the_smooth_head_alone():
    _, params = fresh(arms.GENERATORS["no detail"])
    assert [*params["head"]] == ["smooth"]
    assert [*fresh(Generator)[1]["head"]] != ["smooth"]


def test_without_group_deviation_an_image_is_judged_by_itself():
    def first_of(network):
        module, params = fresh(network)
        alone = images().at[1:].set(0.5)
        judged = module.apply({"params": params}, alone).realness
        return np.abs(judged - answer(module, params))[0]

    assert first_of(Discriminator) > 1e-4
    assert first_of(arms.DISCRIMINATORS["no deviation"]) < 1e-6


@pytest.mark.parametrize("name", ["spectral", "spectral, no norm"])
def test_spectral_norm_makes_the_size_of_kernels_indifferent(name):
    module, params = fresh(arms.DISCRIMINATORS[name])
    larger = jax.tree.map(lambda p: 3 * p if p.ndim > 1 else p, params)
    np.testing.assert_allclose(
        answer(module, larger), answer(module, params), rtol=1e-4
    )


def test_a_kernel_by_its_norm_has_a_largest_singular_value_of_one():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 4)))[0] for n in (18, 6))
    kernel = (left * [5, 2, 1, 0.5]) @ right.T
    normal = arms.by_norm(jnp.asarray(kernel.reshape(3, 3, 2, 6))).reshape(18, 6)
    assert np.linalg.svd(normal)[1][0] == pytest.approx(1, rel=1e-4)


def test_a_projection_asks_whether_an_image_is_of_the_class_of_its_place():
    module, params = fresh(arms.DISCRIMINATORS["projection"])
    swapped = module.apply({"params": params}, images()[jnp.array([1, 0, 3, 2])])
    moved = swapped.realness[jnp.array([1, 0, 3, 2])] - answer(module, params)
    towards = swapped.features @ params["projection"]["kernel"]
    gap = (towards[:, 0] - towards[:, 1])[jnp.array([1, 0, 3, 2])]
    sign = jnp.array([-1, 1, -1, 1])  # from 0 to 1, from 1 to 0
    np.testing.assert_allclose(moved, sign * gap, atol=1e-4)


def test_groups_are_normed_as_flax_norms_them():
    x = 3 + jax.random.normal(tiny.key(0), (2, 5, 5, 16))
    norm = nn.GroupNorm(arms.GROUPS, epsilon=1e-5, use_bias=False, use_scale=False)
    np.testing.assert_allclose(arms.in_groups(x), norm.apply({}, x), atol=1e-5)


# Trials


class Blind:
    """A yard that sees nothing."""

    def __init__(self):
        self.feeds = []

    def look(self, params):
        return {"eval/kid": 0.5, "eval/fidelity": 1.0}

    def measure(self, params):
        return {"fid/cxr": 2.0}


def test_a_trial_looks_on_the_way_and_is_measured_at_its_end(open_run, tmp_path):
    run = open_run(tmp_path, evaluate_kimg=3 * 64 / 1000)
    record = trial.play(run, Blind())
    assert [kimg for kimg, _ in record["looks"]] == [3 * 0.064, 6 * 0.064]
    assert record["figures"].keys() == {"eval/kid", "eval/fidelity", "fid/cxr"}
    assert record["cpu_seconds"] > 0


def test_a_trial_ends_where_a_weight_is_no_number(open_run, tmp_path, monkeypatch):
    whole = trial.train.fresh_state

    def broken(*given):
        state = whole(*given)
        params = jax.tree.map(lambda p: p * np.nan, state.generator.params)
        return state.replace(generator=state.generator.replace(params=params))

    monkeypatch.setattr(trial.train, "fresh_state", broken)
    record = trial.play(open_run(tmp_path), Blind())
    assert record == {"looks": [], "broken_at": 0.064}


def test_real_images_measured_by_the_yard_are_at_no_distance(phantoms, monkeypatch):
    """In a space of 4 x 4 means; phantoms of half B in place of generated ones."""

    def means(images):
        return images.reshape(len(images), 4, 4, 4, 4).mean((2, 4)).reshape(-1, 16)

    space = FeatureSpace("means", 16, means)
    monkeypatch.setattr(trial.features, "space", lambda name: space)
    monkeypatch.setattr(trial.monitor, "reference_of", lambda dataset: "seen")
    small = dataclasses.replace(phantoms.val, images=phantoms.val.images[:, ::2, ::2])
    dataset = dataclasses.replace(phantoms, val=small)
    yard = trial.Yard(dataset)
    half = trial.evaluation.divide(dataset).sides()["B"]
    each = half.labels[half.pick((0, 1), yard.each, 0)]
    chosen = half.images[half.pick((0, 1), yard.each, 0)]
    monkeypatch.setattr(
        trial.sampling, "sample", lambda params, labels, seed: chosen / np.float32(255)
    )
    params = type("Params", (), {"class_names": ("a", "b")})
    figures = yard.measure(params)
    assert each.tolist() == [0] * yard.each + [1] * yard.each
    assert figures["fid/cxr"] == pytest.approx(0, abs=1e-6)
    assert figures["recall/texture"] == 1


def test_a_val_too_small_to_look_at_is_refused(phantoms, monkeypatch):
    monkeypatch.setattr(trial.monitor, "reference_of", lambda dataset: None)
    with pytest.raises(ValueError, match="val has too few images"):
        trial.Yard(phantoms)


# The command


@pytest.fixture
def played(monkeypatch, phantoms):
    """Runs of no training; the list of (discriminator, R1, seed) of those played."""
    seen = []

    def play(run, yard):
        config = run.config
        seen.append((config.discriminator.name, config.loss.r1_weight, config.seed))
        return made_up(2.0 + len(seen) / 100)

    monkeypatch.setattr(trial, "play", play)
    monkeypatch.setattr(trial, "Yard", lambda dataset: YardOf(phantoms))
    monkeypatch.setattr(ablation.data, "load", lambda *_, **__: phantoms)
    monkeypatch.setattr(gan, "GENERATORS", dict(gan.GENERATORS))
    monkeypatch.setattr(gan, "DISCRIMINATORS", dict(gan.DISCRIMINATORS))
    monkeypatch.setattr(ablation.parallel, "keep_compilations", lambda: None)
    return seen


class YardOf:
    def __init__(self, dataset):
        self.dataset = dataset


def made_up(fid, texture=1.0, last=1.0, recall=0.5):
    """A finished run, without its configuration."""
    rest = {name: 0.5 for name, _ in effects.COLUMNS.values()}
    figures = {**rest, "fid/cxr": fid, "fid/texture": texture, "recall/cxr": recall}
    return {"looks": [[1, 1.0], [2, last]], "figures": figures, "cpu_seconds": 60.0}


def command(*words):
    values = flags.FlagValues()
    ablation.define_flags(values)
    values(["ablation", "--dataset=phantom:60", *words])
    return ablation.main(["ablation"], values)


TWO = "--only=as published,no R1"


def test_a_run_s_programs_are_let_go_of_after_it(played, tmp_path):
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


def test_all_arms_get_a_seed_before_any_gets_the_next(played, tmp_path, capsys):
    assert command(f"--workdir={tmp_path}", TWO) == 0
    assert [run[1:] for run in played] == [(0.1, 0), (0.0, 0), (0.1, 1), (0.0, 1)]
    assert "no R1, seed 1, 60 s: FID, cxr 2.04" in capsys.readouterr().out


def test_a_run_that_is_there_is_not_trained_again(played, tmp_path):
    assert command(f"--workdir={tmp_path}", TWO) == 0
    (tmp_path / "sort" / "no_r1" / "1" / "run.json").unlink()
    assert command(f"--workdir={tmp_path}", TWO) == 0
    assert len(played) == 5


def test_what_another_process_trains_is_left_to_it(played, tmp_path):
    folder = tmp_path / "sort" / "no_r1" / "0"
    folder.mkdir(parents=True)
    with lock.held(folder):
        assert command(f"--workdir={tmp_path}", TWO) == 0
    assert [run[1:] for run in played] == [(0.1, 0), (0.1, 1), (0.0, 1)]


def test_runs_of_another_length_are_not_mixed_in(played, tmp_path, capsys):
    assert command(f"--workdir={tmp_path}", TWO) == 0
    assert command(f"--workdir={tmp_path}", TWO, "--kimg=3") == 1
    error = capsys.readouterr().err
    assert "was trained with other evaluate_kimg, total_kimg; give another" in error
    assert len(played) == 4


def test_a_damaged_record_is_named(played, tmp_path, capsys):
    path = tmp_path / "sort" / "as_published" / "0" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"looks": ')
    assert command(f"--workdir={tmp_path}", TWO) == 1
    assert f"{path} is damaged" in capsys.readouterr().err
    assert path.read_text() == '{"looks": '


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--only=no R2"], "--only=no R2: no such arm; did you mean no R1?"),
        (["--stage=leave_one_out"], "holds no sort: run --stage=sort first"),
        (["--out=nowhere.md"], "nowhere.md: no such page"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_training(
    words, complaint, played, tmp_path, capsys
):
    assert command(f"--workdir={tmp_path}", *words) == 1
    assert complaint in capsys.readouterr().err
    assert not played


def test_leave_one_out_is_of_the_largest_effects_of_the_sort(
    played, tmp_path, monkeypatch
):
    monkeypatch.setattr(ablation, "LARGEST", 1)
    assert command(f"--workdir={tmp_path}", "--only=as published,no R1,hinge") == 0
    for seed in (0, 1):
        path = tmp_path / "sort" / "no_r1" / str(seed) / "run.json"
        record = json.loads(path.read_text())
        record["figures"]["fid/cxr"] = 0.1
        path.write_text(json.dumps(record))
    del played[:]
    assert command(f"--workdir={tmp_path}", "--stage=leave_one_out") == 0
    assert [run[:2] for run in played[:3]] == [
        (SHIPPED, 0.1),
        ("plain", 0.0),
        (SHIPPED, 0.0),
    ]
    assert len(played) == 6


@pytest.mark.parametrize(
    ("stage", "images"), [("few", 100), ("few_250", 250), ("few_1000", 1000)]
)
def test_with_few_images_augmentation_alone_is_looked_at(
    played, tmp_path, stage, images
):
    assert command(f"--workdir={tmp_path}", f"--stage={stage}") == 0
    kept = [json.loads(p.read_text()) for p in tmp_path.glob(f"{stage}/*/0/run.json")]
    assert {tuple(run["config"]["samples_per_class"]) for run in kept} == {(images,)}
    strengths = {
        (*run["config"]["augment"].values(), run["config"]["augment_by_lead"])
        for run in kept
    }
    assert len(strengths) == len(kept) == len(arms.FOR_FEW) == 3


def test_the_page_gets_table_drawing_and_figures(played, tmp_path):
    page = tmp_path / "ablation.md"
    page.write_text("Words.\n<!-- sort -->\n<!-- end of sort -->\n")
    assert command(f"--workdir={tmp_path}", TWO, f"--out={page}") == 0
    assert "| no R1 |" in page.read_text()
    assert "![Effect of each arm](ablation.sort.svg)" in page.read_text()
    assert (tmp_path / "ablation.sort.svg").read_text().startswith("<svg")
    kept = json.loads((tmp_path / "ablation.sort.json").read_text())
    assert {arm: len(records) for arm, records in kept.items()} == {
        "as published": 2,
        "no R1": 2,
    }


# What is told


def records(**arms_of):
    size = {"total_kimg": 24.0, "resolution": 32}
    return {
        name.replace("_", " "): [{**size, **run} for run in runs]
        for name, runs in arms_of.items()
    }


def test_an_effect_is_of_both_distances_beside_the_noise_of_all_seeds():
    found = records(
        as_published=[made_up(1.0), made_up(math.e**0.2)],
        hinge=[made_up(math.e**2, math.e**2), made_up(math.e**2.2, math.e**2)],
    )
    assert effects.noise(found) == pytest.approx(0.1 / math.sqrt(2))
    hinge, published = effects.effects(found)
    assert (hinge.arm, published.arm) == ("hinge", "as published")
    assert hinge.each == pytest.approx((1.95, 2.05))
    assert hinge.mean == pytest.approx(2)
    assert hinge.error == pytest.approx(0.1 / math.sqrt(2))
    assert hinge.sure and not published.sure


def test_the_table_tells_what_is_sure_what_broke_and_what_did_not_stay():
    found = records(
        as_published=[made_up(1.0), made_up(1.1)],
        hinge=[made_up(4.0, recall=0.1), made_up(4.4, last=2.0, recall=0.1)],
        no_R1=[made_up(1.05), {"looks": [], "broken_at": 3.2}],
        logistic=[{"looks": [], "broken_at": 1.6}] * 2,
    )
    text = effects.text(found, "drawn.svg")
    assert "- Worse than as published: hinge.\n" in text
    assert "- Better: none.\n- Within the noise: no R1.\n" in text
    assert "8 runs of about 60 s of CPU, 3 of them ended by NaN" in text
    assert "1.15 times the best: hinge.\n" in text
    assert "Recall in `cxr` less than half as high: hinge.\n" in text
    assert "| hinge | **+100 %** | 4.20 | 1.000 |" in text
    assert "| 2, 1 NaN |" in text
    assert "| logistic | never finished |" in text
    assert effects.line("no R1", 1, found["no R1"][1]) == (
        "no R1, seed 1: not finite at 3.2 kimg"
    )


def test_the_drawing_has_a_dot_for_every_run():
    found = records(
        as_published=[made_up(1.0), made_up(1.1)], hinge=[made_up(4.0), made_up(4.4)]
    )
    drawing = ElementTree.fromstring(effects.draw(found))
    assert len(drawing.findall("{*}circle")) == 4


def test_nothing_is_said_without_noise_or_without_the_published_recipe():
    with pytest.raises(ValueError, match="no arm has two finished runs"):
        effects.effects(records(as_published=[made_up(1.0)]))
    with pytest.raises(ValueError, match="'as published' has no finished run"):
        effects.effects(records(hinge=[made_up(1.0), made_up(2.0)]))


def test_the_largest_effects_are_those_either_way():
    found = records(
        as_published=[made_up(1.0), made_up(1.1)],
        hinge=[made_up(4.0)],
        logistic=[made_up(1.2)],
        no_R1=[made_up(0.1)],
    )
    assert effects.largest(found, 2, ["as published"]) == ["no R1", "hinge"]


def test_the_committed_page_is_that_of_its_runs():
    page = DOCS / "ablation.md"
    found = pages.earlier(page, "sort")
    told = effects.text(found, "ablation.sort.svg")
    assert pages.put(page.read_text(), "sort", told) == page.read_text()
    assert (DOCS / "ablation.sort.svg").read_text() == effects.draw(found)
    assert found.keys() == arms.ARMS.keys()
