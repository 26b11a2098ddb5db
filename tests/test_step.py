"""The rules of a round, played by networks of a few numbers that a hand can follow."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from flax import linen as nn
from ml_collections import ConfigDict, FrozenConfigDict

from cxr_gan import images, step, terms
from cxr_gan.gan import build
from cxr_gan.losses import ADVERSARIAL, CLASSES
from cxr_gan.models.discriminator import Judgement
from cxr_gan.schedule import Schedule

BATCH = {
    "image": np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), dtype=np.uint8),
    "label": np.arange(8, dtype=np.int32) % 2,
}
LABELS = jnp.array([0, 1, 0, 1])
TOTAL = np.asarray(images.from_uint8(BATCH["image"])).sum((1, 2, 3))
SLOPE, BIAS, GAIN = 0.05, 0.2, 0.1  # of the two networks below
RATE = 0.1


class Grey(nn.Module):
    """Evenly grey images: a gain times z[0], plus what the label adds."""

    @nn.compact
    def __call__(self, z, label, told=1):
        gain = self.param("gain", nn.initializers.constant(GAIN), ())
        bias = self.param("bias", nn.initializers.zeros, (2,))
        grey = gain * z[:, 0] + told * bias[label]
        return jnp.broadcast_to(grey[:, None, None, None], (len(z), 4, 4, 1))


class Tilted(nn.Module):
    """Planes: as steep downwards as z[0] says, and sideways as z[1]."""

    @nn.compact
    def __call__(self, z, label, told=1):
        gain = self.param("gain", nn.initializers.constant(GAIN), ())
        bias = self.param("bias", nn.initializers.zeros, (2,))
        up, tilt = jnp.linspace(-1, 1, 4), gain * z[:, :2, None, None]
        plane = tilt[:, 0] * up[:, None] + tilt[:, 1] * up
        return (plane + told * bias[label][:, None, None])[..., None]


class Sum(nn.Module):
    """Judges an image by the sum of its pixels alone."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image, sharpness=1):
        slope = self.param("slope", nn.initializers.constant(SLOPE), ())
        bias = self.param("bias", nn.initializers.constant(BIAS), ())
        classes = self.param("classes", nn.initializers.zeros, (2,))
        total = image.sum((1, 2, 3))
        return Judgement(slope * total + bias, total[:, None] * classes, total[:, None])


@pytest.fixture(scope="module")
def toy(gan):
    """`gan` with networks of a few numbers, SGD, and no augmentation."""
    toy = dataclasses.replace(
        gan,
        generator=Grey(),
        discriminator=Sum(),
        optimizer_d=optax.sgd(RATE),
        optimizer_g=optax.sgd(RATE),
        resolution=4,
        policies=(),
        schedule=Schedule(0.008, 0.8, 0.0, 0.0, 0.0),
    )
    return ruled(
        toy,
        "loss",
        r1_weight=0.5,
        r1_every=2,
        feature_matching=0.3,
        sameness_weight=0.0,
    )


@pytest.fixture(scope="module")
def start(toy):
    return tiny.fresh_state(toy)


def ruled(game, section, **values):
    """The game with other values in one section of its rules."""
    rules = ConfigDict(getattr(game, section))
    rules.update(values)
    return dataclasses.replace(game, **{section: FrozenConfigDict(rules)})


@functools.partial(jax.jit, static_argnames=("game", "devices"))
def round_of(game, state, devices=1):
    """One whole round on so many devices: the next state, and metrics."""

    def play(share):
        return step.train_step(game, state, share, tiny.key(1))

    share = {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in BATCH.items()}
    played = jax.vmap(play, axis_name=step.AXIS)(share)
    return jax.tree.map(lambda x: x[0], played)


@functools.partial(jax.jit, static_argnames=("update", "game"))
def turn_of(update, game, state, speed=1.0):
    """One player's turn: the next state, metrics, and what was dealt."""

    def turn(share):
        dealt = step.deal(game, share, tiny.key(1))
        drawn = step.generate(game, state.generator.params, dealt, 1.0)
        return *update(game, state, dealt, drawn, speed), dealt

    played = jax.vmap(turn, axis_name=step.AXIS)({k: v[None] for k, v in BATCH.items()})
    return jax.tree.map(lambda x: x[0], played)


def class_means(values):
    """[8] -> [2 groups, 2 classes]."""
    return values.reshape(2, 2, 2).mean(1)


def equal(a, b) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_d_s_turn_is_one_descent_of_its_losses_and_leaves_g_alone(toy, start):
    new, metrics, dealt = turn_of(step.update_discriminator, toy, start)
    chex.assert_trees_all_equal(new.generator, start.generator)
    chex.assert_trees_all_equal(new.ema, start.ema)
    fake = 16 * GAIN * dealt.z[:, 0]
    on_real, on_fake = SLOPE * TOTAL + BIAS, SLOPE * fake + BIAS
    penalty = 8 * SLOPE**2  # half of 16 squares, times 0.5, every 2nd time
    by_slope = ((on_real - 1) * TOTAL + on_fake * fake).mean() + 16 * SLOPE
    by_bias = (on_real - 1 + on_fake).mean()
    params = new.discriminator.params
    np.testing.assert_allclose(params["slope"], SLOPE - RATE * by_slope, rtol=1e-4)
    np.testing.assert_allclose(params["bias"], BIAS - RATE * by_bias, rtol=1e-4)
    expected = 0.5 * ((on_real - 1) ** 2 + on_fake**2).mean()
    np.testing.assert_allclose(metrics["d/adversarial"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["d/penalty"], penalty, rtol=1e-5)
    np.testing.assert_allclose(metrics["d/class"], np.log(2), rtol=1e-5)
    # It learns the classes from real images only, with the weight of its own.
    sign = 0.5 - np.eye(2)[BATCH["label"]]
    by_classes = toy.loss.class_weight_d * (sign * TOTAL[:, None]).mean(0)
    np.testing.assert_allclose(params["classes"], -RATE * by_classes, rtol=1e-4)


def test_g_s_turn_is_one_descent_of_its_losses_and_leaves_d_alone(toy, start):
    new, metrics, dealt = turn_of(step.update_generator, toy, start)
    chex.assert_trees_all_equal(new.discriminator, start.discriminator)
    chex.assert_trees_all_equal(new.ema, start.ema)
    on_fake = SLOPE * 16 * GAIN * dealt.z[:, 0] + BIAS
    # Two groups, 0 1 0 1 and 0 1 0 1: within each, what both classes miss on average.
    gap = class_means(16 * GAIN * dealt.z[:, 0] - TOTAL)
    by_gain = ((on_fake - 1) * SLOPE * 16 * dealt.z[:, 0]).mean()
    by_gain += 0.3 * (2 * gap * class_means(16 * dealt.z[:, 0])).mean()
    gain = new.generator.params["gain"]
    np.testing.assert_allclose(gain, GAIN - RATE * by_gain, rtol=1e-4)
    expected = 0.5 * ((on_fake - 1) ** 2).mean()
    np.testing.assert_allclose(metrics["g/adversarial"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["g/matching"], 0.3 * (gap**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["g/class"], np.log(2), rtol=1e-5)


def test_g_is_taught_the_class_it_was_asked_for(toy, start):
    sure = {**start.discriminator.params, "classes": np.array([-1, 1], np.float32)}
    knowing = start.discriminator.replace(params=sure)  # the brighter, the more of 1
    taught, untaught = (
        turn_of(step.update_generator, toy, state)[0].generator.params["bias"]
        for state in (start.replace(discriminator=knowing), start)
    )
    assert taught[0] < untaught[0]
    assert taught[1] > untaught[1]


@pytest.mark.parametrize("update", [step.update_discriminator, step.update_generator])
def test_half_speed_is_half_the_way(toy, start, update):
    full, half = (turn_of(update, toy, start, speed)[0] for speed in (1, 0.5))
    way, half_way = (
        jax.tree.map(lambda new, old: new - old, x, start) for x in (full, half)
    )
    assert max(abs(x).max() for x in jax.tree.leaves(way)) > 1e-3
    halved = jax.tree.map(lambda x: x / 2, way)
    chex.assert_trees_all_close(half_way, halved, atol=1e-7)


def test_the_penalty_enters_every_other_step_as_configured(toy, start):
    played = [
        turn_of(step.update_discriminator, toy, start.replace(step=np.int32(at)))
        for at in range(3)
    ]
    assert [metrics["d/penalty"] > 0 for _, metrics, _ in played] == [True, False, True]
    with_it, without = (new.discriminator.params["slope"] for new, _, _ in played[:2])
    assert with_it < without


def test_without_weight_there_is_no_penalty(toy, start):
    never = ruled(toy, "loss", r1_weight=0.0)
    assert turn_of(step.update_discriminator, never, start)[1]["d/penalty"] == 0


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_every_adversarial_loss_plays_a_round(toy, start, name):
    game = dataclasses.replace(toy, adversarial=ADVERSARIAL[name])
    new, metrics = round_of(game, start)
    chex.assert_tree_all_finite((new, metrics))
    for player in ("generator", "discriminator"):
        before, after = getattr(start, player).params, getattr(new, player).params
        assert not equal(before, after)


def test_a_relativistic_d_is_right_where_it_prefers_the_real_one_of_a_pair(toy):
    game = dataclasses.replace(toy, adversarial=ADVERSARIAL["relativistic"])
    on_real, on_fake = jnp.array([5.0, -3, 2, 1]), jnp.array([4.0, -4, 3, 1])
    signs = terms.signs_of_balance(game, on_real, on_fake, jnp.zeros((4, 2)), LABELS)
    assert signs["d/accuracy_real"] == 0.5
    assert signs["d/accuracy_fake"] == 0.75  # a tie is to its credit


def test_a_relativistic_g_answers_the_real_images_of_the_round(toy, start):
    game = dataclasses.replace(toy, adversarial=ADVERSARIAL["relativistic"])
    _, metrics, dealt = turn_of(step.update_generator, game, start)
    lead = SLOPE * (TOTAL - 16 * GAIN * dealt.z[:, 0])
    expected = np.log1p(np.exp(lead)).mean()
    np.testing.assert_allclose(metrics["g/adversarial"], expected, rtol=1e-5)


def test_the_penalty_is_on_generated_images_too_where_that_has_a_weight(toy, start):
    both = ruled(toy, "loss", r2_weight=0.25)
    one, two = (
        turn_of(step.update_discriminator, game, start)[1]["d/penalty"]
        for game in (toy, both)
    )
    np.testing.assert_allclose(two, 1.5 * one, rtol=1e-5)


@pytest.mark.parametrize("name", CLASSES)
def test_every_loss_of_classes_plays_a_round(name):
    config = tiny.tiny_config(16)
    config.loss.classes = name
    game = build(config, tiny.CLASS_NAMES)
    state = tiny.fresh_state(game)
    batch = {
        "image": np.zeros((8, 16, 16, 1), np.uint8),
        "label": np.arange(8, dtype=np.int32) % 2,
    }
    played = jax.vmap(
        lambda share: step.train_step(game, state, share, tiny.key(1)),
        axis_name=step.AXIS,
    )
    new, metrics = jax.jit(played)(jax.tree.map(lambda x: x[None], batch))
    chex.assert_tree_all_finite((new, metrics))
    assert metrics["d/class"] > 0


def test_before_labels_come_in_neither_g_nor_the_class_losses_know_them(toy, start):
    late = dataclasses.replace(toy, schedule=toy.schedule._replace(condition_kimg=0.4))
    biased = jax.tree.map(np.copy, start.generator.params)
    biased["bias"] = np.array([-0.5, 0.5], np.float32)
    state = start.replace(generator=start.generator.replace(params=biased))
    first, middle = (round_of(late, state.replace(step=np.int32(at))) for at in (0, 25))
    for new, metrics, told in ((*first, 0), (*middle, 0.5)):
        assert metrics["balance/condition"] == pytest.approx(told)
        moved = np.abs(new.discriminator.params["classes"]).max() > 0
        assert moved == (told > 0)
        assert equal(new.generator.params["bias"], biased["bias"]) == (told == 0)


def test_a_round_counts_itself_and_remembers_the_lead(toy, start):
    new, metrics = round_of(toy, start)
    assert new.step == 1
    keep = 0.5 ** (0.008 / toy.balance.halflife_kimg)
    expected = keep * start.lead + (1 - keep) * metrics["d/lead"]
    np.testing.assert_allclose(new.lead, expected, rtol=1e-5)
    assert new.lead != start.lead


@pytest.mark.parametrize(("at", "halflife"), [(99, 0.05 * 0.8), (10**6, 10.0)])
def test_the_average_forgets_by_a_halflife_that_grows_up_to_its_own(
    toy, start, at, halflife
):
    elsewhere = jax.tree.map(lambda x: x + 1, start.ema)
    new, _ = round_of(toy, start.replace(step=np.int32(at), ema=elsewhere))
    keep = 0.5 ** (0.008 / halflife)
    expected = keep * (GAIN + 1) + (1 - keep) * new.generator.params["gain"]
    np.testing.assert_allclose(new.ema["gain"], expected, rtol=1e-5)


@pytest.mark.parametrize(("lead", "slowed"), [(5.0, "d"), (-5.0, "g"), (0.4, "")])
def test_balance_slows_the_player_that_runs_away(toy, start, lead, slowed):
    _, metrics = round_of(toy, start.replace(lead=np.float32(lead)))
    for player in ("d", "g"):
        assert (metrics[f"balance/{player}_speed"] < 0.01) == (player == slowed)


def test_balance_switched_off_leaves_both_at_full_speed(toy, start):
    free = ruled(toy, "balance", enabled=False)
    ahead = start.replace(lead=np.float32(5))
    new, metrics = round_of(free, ahead)
    assert metrics["balance/d_speed"] == metrics["balance/g_speed"] == 1
    level, _ = round_of(toy, start.replace(lead=np.float32(0.4)))
    chex.assert_trees_all_close(new.discriminator, level.discriminator)


def test_what_has_faded_moves_neither_player(toy, start):
    schedule = toy.schedule._replace(total_kimg=0.08, decay_kimg=0.04)
    over = dataclasses.replace(toy, schedule=schedule)
    new, metrics = round_of(over, start.replace(step=np.int32(10)))
    assert metrics["balance/decay"] == 0
    for player in ("discriminator", "generator"):
        before, after = (getattr(state, player).params for state in (start, new))
        chex.assert_trees_all_equal(before, after)


def test_signs_of_balance_are_shares_of_right_answers_class_by_class(toy):
    signs = terms.signs_of_balance(
        toy,  # least squares: undecided at 0.5
        on_real=jnp.array([0.9, 0.6, 0.4, 0.7]),
        on_fake=jnp.array([0.1, 0.8, 0.2, 0.9]),
        logits=jnp.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
        label=jnp.array([0, 1, 0, 1]),
    )
    by_hand = {
        "d/accuracy_real": 3 / 4,
        "d/accuracy_fake": 2 / 4,
        "d/accuracy_class": 2 / 4,
        "d/lead": 0.15,
        "d/accuracy_real_by_class": [1 / 2, 1],
        "d/accuracy_fake_by_class": [1, 0],
        "d/lead_by_class": [0.5, -0.2],
    }
    assert set(signs) == set(by_hand)
    for name, expected in by_hand.items():
        np.testing.assert_allclose(signs[name], expected, rtol=1e-5, err_msg=name)
        if name.endswith("_by_class"):
            whole = signs[name.removesuffix("_by_class")]
            np.testing.assert_allclose(signs[name].mean(), whole, rtol=1e-5)


def test_noise_follows_an_example_s_place_in_the_global_batch(toy):
    def all_dealt(devices):
        share = {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in BATCH.items()}
        deal = functools.partial(step.deal, toy, rng=tiny.key(1))
        dealt = jax.jit(jax.vmap(deal, axis_name=step.AXIS))(share)
        keys = jax.random.key_data(dealt.keys).reshape(8, 3, -1)
        return dealt.z.reshape(8, -1), keys

    z, keys = all_dealt(1)
    chex.assert_trees_all_equal((z, keys), all_dealt(2))
    assert len(np.unique(z)) == z.size
    assert len(np.unique(keys.reshape(24, -1), axis=0)) == 24


def test_every_round_draws_new_noise(toy, start):
    first, second, again = (
        round_of(toy, start.replace(step=np.int32(at)))[1]["d/adversarial"]
        for at in (0, 1, 0)
    )
    assert first != second
    assert first == again


def test_real_and_generated_images_are_augmented_by_the_same_policies(
    toy, start, monkeypatch
):
    seen = []

    def record(image, keys, policies):
        seen.append((keys.shape, policies))
        return image

    monkeypatch.setattr(terms, "augment", record)
    policies = (("brightness", 0.5),)
    game = dataclasses.replace(toy, policies=policies)
    jax.eval_shape(functools.partial(round_of, game), start)
    # For D real and generated; for G generated, and real ones whose features to match.
    assert seen == [((8,), policies)] * 4


@pytest.mark.parametrize(("lead", "changed"), [(-1.0, False), (2.0, True)])
def test_where_augmentation_follows_the_lead_d_must_lead_for_it(
    toy, start, lead, changed
):
    state = start.replace(lead=np.float32(lead))
    strong = dataclasses.replace(toy, policies=(("brightness", 1.0),))
    by_lead = dataclasses.replace(strong, augment_by_lead=True)
    never, now = (
        turn_of(step.update_discriminator, game, state)[1] for game in (toy, by_lead)
    )
    assert (never["d/adversarial"] != now["d/adversarial"]) == changed


def test_several_devices_play_the_round_of_one(toy, start):
    alone, together = (round_of(toy, start, devices) for devices in (1, 2))
    chex.assert_trees_all_close(alone, together, rtol=1e-5, atol=1e-6)


def test_a_batch_in_parts_plays_the_round_of_a_whole_one(toy):
    """Of images that are not evenly grey: their contrast is divided by."""
    tilted = dataclasses.replace(toy, generator=Tilted())
    whole = ruled(tilted, "loss", sameness_weight=0.5)
    parts = dataclasses.replace(whole, microbatches=2)  # a group of 4 each
    start = tiny.fresh_state(whole)
    chex.assert_trees_all_close(
        round_of(whole, start), round_of(parts, start), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("wrong", [[np.nan, 0], [np.inf, 0], [np.inf, -np.inf]])
def test_arrays_with_a_number_that_is_none_are_counted(start, wrong):
    spoilt = jax.tree.map(np.copy, start.generator.params)
    spoilt["bias"] = np.array(wrong, np.float32)
    assert step.non_finite(start) == 0
    generator = start.generator.replace(params=spoilt)
    assert step.non_finite(start.replace(generator=generator)) == 1
    both = start.discriminator.replace(
        params=jax.tree.map(lambda a: a * np.nan, start.discriminator.params)
    )
    spoilt = start.replace(generator=generator, discriminator=both)
    arrays = len(jax.tree.leaves(start.discriminator.params))
    assert step.non_finite(spoilt) == 1 + arrays


def test_g_is_told_what_its_images_lack_in_difference(toy, start):
    off = turn_of(step.update_generator, toy, start)[1]
    on = turn_of(step.update_generator, ruled(toy, "loss", sameness_weight=2.0), start)
    assert off["g/repetition"] == 0
    assert 0 < on[1]["g/repetition"] <= 4 * 2.0 + 1e-3
    assert on[0].generator.params["gain"] != start.generator.params["gain"]


@pytest.mark.parametrize(("devices", "exchanged"), [(1, False), (2, True)])
def test_one_device_exchanges_no_means(devices, exchanged):
    mean = jax.pmap(step.over_devices, axis_name=step.AXIS)
    each = np.arange(devices, dtype=np.float32)
    assert ("psum" in str(jax.make_jaxpr(mean)(each))) == exchanged
    np.testing.assert_array_equal(mean(each), np.full(devices, each.mean()))
