"""The training step, with networks of a few numbers whose updates are hand-computed."""

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

from cxr_gan.losses import ADVERSARIAL, CLASS_LOSSES
from cxr_gan.models import pixel_range
from cxr_gan.models.discriminator import DiscriminatorOutput
from cxr_gan.training import loss_terms, train_step
from cxr_gan.training.loss_terms import INNER_CHANGE, pair_loss
from cxr_gan.training.schedules import learning_rate_scale

BATCH = {
    "image": np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), dtype=np.uint8),
    "label": np.arange(8, dtype=np.int32) % 2,
}
LABELS = jnp.array([0, 1, 0, 1])
TOTAL = np.asarray(pixel_range.from_uint8(BATCH["image"])).sum((1, 2, 3))
SLOPE, BIAS, GAIN = 0.05, 0.2, 0.1  # parameters of the two networks below
RATE = 0.1


class Grey(nn.Module):
    """Uniform images: a gain times z[0], plus a bias of the label."""

    columns: tuple[int, ...] = (1, 1, 1, 1)  # factors

    @nn.compact
    def __call__(self, z, label):
        gain = self.param("gain", nn.initializers.constant(GAIN), ())
        bias = self.param("bias", nn.initializers.zeros, (2,))
        grey = gain * z[:, 0] + bias[label]
        columns = jnp.broadcast_to(jnp.array(self.columns)[:, None], (len(z), 4, 4, 1))
        return grey[:, None, None, None] * columns


class Sum(nn.Module):
    """Scores an image by the sum of its pixels alone."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image):
        slope = self.param("slope", nn.initializers.constant(SLOPE), ())
        bias = self.param("bias", nn.initializers.constant(BIAS), ())
        classes = self.param("classes", nn.initializers.zeros, (2,))
        total = image.sum((1, 2, 3))
        return DiscriminatorOutput(slope * total + bias, total[:, None] * classes)


def with_values(gan, section="", **values):
    """The definition with other values in its configuration, or a section of it."""
    if section:
        changed = dataclasses.replace(getattr(gan.config, section), **values)
        values = {section: changed}
    config = dataclasses.replace(gan.config, **values)
    return dataclasses.replace(gan, config=config)


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
        augment_policies=(),
    )
    toy = with_values(toy, batch_size=8, total_kimg=0.8, lr_decay_fraction=0.0)
    return with_values(
        toy,
        "loss",
        r1_weight=0.5,
        r1_interval=2,
        diversity_weight=0.0,
    )


@pytest.fixture(scope="module")
def start(toy):
    return tiny.initial_state(toy)


@functools.partial(jax.jit, static_argnames=("gan",))
def step_of(gan, state):
    """One training step: the next state, and metrics."""

    def step(shard):
        return train_step.train_step(gan, state, shard, tiny.key(1))

    shards = {k: v[None] for k, v in BATCH.items()}
    result = jax.vmap(step, axis_name=train_step.AXIS)(shards)
    return jax.tree.map(lambda x: x[0], result)


@functools.partial(jax.jit, static_argnames=("gan", "network"))
def update(network, gan, state, scale=1.0):
    """The update of "d" or "g" alone: the next state, metrics, and the inputs."""

    def update(shard):
        lr_scale = learning_rate_scale(gan.config, state.step)
        inputs = train_step.prepare_inputs(gan, shard, tiny.key(1))
        fake, vjp_fn = train_step.generator_forward(gan, state.generator.params, inputs)
        if network == "d":
            result = train_step.update_discriminator(
                gan, state, inputs, fake, lr_scale, scale
            )
        else:
            result = train_step.update_generator(
                gan, state, inputs, fake, vjp_fn, lr_scale, scale
            )
        return *result, inputs

    shards = {k: v[None] for k, v in BATCH.items()}
    result = jax.vmap(update, axis_name=train_step.AXIS)(shards)
    return jax.tree.map(lambda x: x[0], result)


d_update, g_update = (functools.partial(update, network) for network in "dg")


def test_discriminator_update_is_one_descent_step_and_leaves_g_unchanged(toy, start):
    new, metrics, inputs = d_update(toy, start)
    chex.assert_trees_all_equal(new.generator, start.generator)
    chex.assert_trees_all_equal(new.ema, start.ema)
    fake = 16 * GAIN * inputs.z[:, 0]
    real_score, fake_score = SLOPE * TOTAL + BIAS, SLOPE * fake + BIAS
    penalty = 8 * SLOPE**2  # half of 16 squares, times 0.5, every 2nd step
    slope_grad = ((real_score - 1) * TOTAL + fake_score * fake).mean() + 16 * SLOPE
    bias_grad = (real_score - 1 + fake_score).mean()
    params = new.discriminator.params
    np.testing.assert_allclose(params["slope"], SLOPE - RATE * slope_grad, rtol=1e-4)
    np.testing.assert_allclose(params["bias"], BIAS - RATE * bias_grad, rtol=1e-4)
    expected = 0.5 * ((real_score - 1) ** 2 + fake_score**2).mean()
    np.testing.assert_allclose(metrics["d/adversarial"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["d/r1"], penalty, rtol=1e-5)
    np.testing.assert_allclose(metrics["d/class"], np.log(2), rtol=1e-5)
    # Classes are learnt from real images only, with D's own weight.
    sign = 0.5 - np.eye(2)[BATCH["label"]]
    classes_grad = toy.config.loss.class_weight.d * (sign * TOTAL[:, None]).mean(0)
    np.testing.assert_allclose(params["classes"], -RATE * classes_grad, rtol=1e-4)


def test_generator_update_is_one_descent_step_and_leaves_d_unchanged(toy, start):
    new, metrics, inputs = g_update(toy, start)
    chex.assert_trees_all_equal(new.discriminator, start.discriminator)
    chex.assert_trees_all_equal(new.ema, start.ema)
    fake_score = SLOPE * 16 * GAIN * inputs.z[:, 0] + BIAS
    gain_grad = ((fake_score - 1) * SLOPE * 16 * inputs.z[:, 0]).mean()
    gain = new.generator.params["gain"]
    np.testing.assert_allclose(gain, GAIN - RATE * gain_grad, rtol=1e-4)
    expected = 0.5 * ((fake_score - 1) ** 2).mean()
    np.testing.assert_allclose(metrics["g/adversarial"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["g/class"], np.log(2), rtol=1e-5)


def test_generator_learns_the_class_that_was_asked_for(toy, start):
    params = {**start.discriminator.params, "classes": np.array([-1, 1], np.float32)}
    knowing = start.discriminator.replace(params=params)  # bright means class 1
    taught, untaught = (
        g_update(toy, state)[0].generator.params["bias"]
        for state in (start.replace(discriminator=knowing), start)
    )
    assert taught[0] < untaught[0]
    assert taught[1] > untaught[1]


@pytest.mark.parametrize("update", [d_update, g_update], ids=["d", "g"])
def test_half_an_update_scale_halves_the_update(toy, start, update):
    full, half = (update(toy, start, scale)[0] for scale in (1.0, 0.5))
    full_step, half_step = (
        jax.tree.map(lambda new, old: new - old, x, start) for x in (full, half)
    )
    assert max(abs(x).max() for x in jax.tree.leaves(full_step)) > 1e-3
    halved = jax.tree.map(lambda x: x / 2, full_step)
    chex.assert_trees_all_close(half_step, halved, atol=1e-7)


def test_gradient_penalty_is_added_every_r1_interval_steps(toy, start):
    updates = [d_update(toy, start.replace(step=np.int32(step))) for step in range(3)]
    assert [metrics["d/r1"] > 0 for _, metrics, _ in updates] == [True, False, True]
    with_it, without = (new.discriminator.params["slope"] for new, _, _ in updates[:2])
    assert with_it < without


def test_step_with_other_losses_trains_both_networks(toy, start):
    losses = {"adversarial": ADVERSARIAL["relativistic"]}
    losses["class_loss"] = CLASS_LOSSES["both"]
    new, metrics = step_of(dataclasses.replace(toy, **losses), start)
    chex.assert_tree_all_finite((new, metrics))
    for name in ("generator", "discriminator"):
        before, after = (getattr(state, name).params for state in (start, new))
        same = jax.tree.map(np.array_equal, before, after)
        assert not all(jax.tree.leaves(same))


def test_relativistic_loss_and_accuracy_use_the_real_images_of_the_step(toy, start):
    gan = dataclasses.replace(toy, adversarial=ADVERSARIAL["relativistic"])
    _, metrics, inputs = g_update(gan, start)
    gap = SLOPE * (TOTAL - 16 * GAIN * inputs.z[:, 0])
    expected = np.log1p(np.exp(gap)).mean()
    np.testing.assert_allclose(metrics["g/adversarial"], expected, rtol=1e-5)
    real_score, fake_score = jnp.array([5.0, -3, 2, 1]), jnp.array([4.0, -4, 3, 1])
    metrics = loss_terms.discriminator_metrics(
        gan, real_score, fake_score, jnp.zeros((4, 2)), LABELS
    )
    assert metrics["d/accuracy_real"] == 0.5  # it compares the images of a pair
    assert metrics["d/accuracy_fake"] == 0.75  # a tie counts as correct


def test_r2_penalizes_generated_images_with_its_own_weight(toy, start):
    both = with_values(toy, "loss", r2_weight=toy.config.loss.r1_weight / 2)
    one, two = (d_update(gan, start)[1]["d/r1"] for gan in (toy, both))
    np.testing.assert_allclose(two, 1.5 * one, rtol=1e-5)


def test_step_is_counted_and_score_gap_is_averaged(toy, start):
    new, metrics = step_of(toy, start)
    assert new.step == 1
    keep = 0.5 ** (0.008 / toy.config.balance.halflife_kimg)
    expected = keep * start.score_gap + (1 - keep) * metrics["d/score_gap"]
    np.testing.assert_allclose(new.score_gap, expected, rtol=1e-5)
    assert new.score_gap != start.score_gap


@pytest.mark.parametrize(("step", "halflife"), [(99, 0.05 * 0.8), (10**6, 10.0)])
def test_ema_halflife_grows_up_to_its_maximum(toy, start, step, halflife):
    ema = jax.tree.map(lambda x: x + 1, start.ema)
    new, _ = step_of(toy, start.replace(step=np.int32(step), ema=ema))
    keep = 0.5 ** (0.008 / halflife)
    expected = keep * (GAIN + 1) + (1 - keep) * new.generator.params["gain"]
    np.testing.assert_allclose(new.ema["gain"], expected, rtol=1e-5)


@pytest.mark.parametrize(("gap", "slowed"), [(5.0, "d"), (-5.0, "g"), (0.4, "")])
def test_balance_controller_slows_the_network_that_is_ahead(toy, start, gap, slowed):
    _, metrics = step_of(toy, start.replace(score_gap=np.float32(gap)))
    for network in ("d", "g"):
        scale = metrics[f"schedule/{network}_update_scale"]
        assert (scale < 0.01) == (network == slowed)


def test_disabled_balance_controller_leaves_both_networks_at_full_speed(toy, start):
    free = with_values(toy, "balance", enabled=False)
    new, metrics = step_of(free, start.replace(score_gap=np.float32(5)))
    assert metrics["schedule/d_update_scale"] == 1
    assert metrics["schedule/g_update_scale"] == 1
    level, _ = step_of(toy, start.replace(score_gap=np.float32(0.4)))
    chex.assert_trees_all_close(new.discriminator, level.discriminator)


def test_learning_rate_decayed_to_zero_changes_neither_network(toy, start):
    over = with_values(toy, total_kimg=0.08, lr_decay_fraction=0.5)
    new, metrics = step_of(over, start.replace(step=np.int32(10)))
    assert metrics["schedule/lr_scale"] == 0
    for network in ("discriminator", "generator"):
        before, after = (getattr(state, network).params for state in (start, new))
        chex.assert_trees_all_equal(before, after)


def test_discriminator_metrics_are_hand_computed_fractions_by_class(toy):
    metrics = loss_terms.discriminator_metrics(
        toy,  # least squares: the decision threshold is 0.5
        real_score=jnp.array([0.9, 0.6, 0.4, 0.7]),
        fake_score=jnp.array([0.1, 0.8, 0.2, 0.9]),
        real_logits=jnp.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
        label=jnp.array([0, 1, 0, 1]),
    )
    by_hand = {
        "d/accuracy_real": 3 / 4,
        "d/accuracy_fake": 2 / 4,
        "d/accuracy_class": 2 / 4,
        "d/score_gap": 0.15,
        "d/accuracy_real_by_class": [1 / 2, 1],
        "d/accuracy_fake_by_class": [1, 0],
        "d/score_gap_by_class": [0.5, -0.2],
    }
    assert set(metrics) == set(by_hand)
    for name, expected in by_hand.items():
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-5, err_msg=name)
        if name.endswith("_by_class"):
            overall = metrics[name.removesuffix("_by_class")]
            np.testing.assert_allclose(metrics[name].mean(), overall, rtol=1e-5)


def test_latents_depend_on_the_index_in_the_global_batch_alone(toy):
    def inputs_on(devices):
        shards = {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in BATCH.items()}
        prepare = functools.partial(train_step.prepare_inputs, toy, rng=tiny.key(1))
        inputs = jax.jit(jax.vmap(prepare, axis_name=train_step.AXIS))(shards)
        keys = jax.random.key_data(inputs.keys).reshape(8, 3, -1)
        return inputs.z.reshape(8, -1), keys

    z, keys = inputs_on(1)
    chex.assert_trees_all_equal((z, keys), inputs_on(2))
    assert len(np.unique(z)) == z.size
    assert len(np.unique(keys.reshape(24, -1), axis=0)) == 24


def test_every_step_draws_new_latents(toy, start):
    first, second, again = (
        step_of(toy, start.replace(step=np.int32(step)))[1]["d/adversarial"]
        for step in (0, 1, 0)
    )
    assert first != second
    assert first == again


def test_real_and_generated_images_are_augmented_by_the_same_policies(
    toy, start, monkeypatch
):
    calls = []

    def record(image, keys, policies):
        calls.append((keys.shape, policies))
        return image

    monkeypatch.setattr(loss_terms, "augment", record)
    policies = (("brightness", 0.5),)
    gan = dataclasses.replace(toy, augment_policies=policies)
    jax.eval_shape(functools.partial(step_of, gan), start)
    # D: real and generated images. G: generated, and real ones for their features.
    assert calls == [((8,), policies)] * 4


@pytest.mark.parametrize(("gap", "changed"), [(-1.0, False), (2.0, True)])
def test_adaptive_augmentation_follows_the_score_gap(toy, start, gap, changed):
    state = start.replace(score_gap=np.float32(gap))
    strong = dataclasses.replace(toy, augment_policies=(("brightness", 1.0),))
    adaptive = with_values(strong, "augment", adaptive=True)
    without, now = (d_update(gan, state)[1] for gan in (toy, adaptive))
    assert (without["d/adversarial"] != now["d/adversarial"]) == changed


@pytest.mark.parametrize("wrong", [[np.nan, 0], [np.inf, 0], [np.inf, -np.inf]])
def test_parameter_arrays_with_nan_or_infinity_are_counted(start, wrong):
    params = jax.tree.map(np.copy, start.generator.params)
    params["bias"] = np.array(wrong, np.float32)
    assert train_step.count_non_finite(start) == 0
    generator = start.generator.replace(params=params)
    assert train_step.count_non_finite(start.replace(generator=generator)) == 1
    discriminator = start.discriminator.replace(
        params=jax.tree.map(lambda a: a * np.nan, start.discriminator.params)
    )
    state = start.replace(generator=generator, discriminator=discriminator)
    arrays = len(jax.tree.leaves(start.discriminator.params))
    assert train_step.count_non_finite(state) == 1 + arrays


def test_diversity_loss_trains_the_generator(toy, start):
    off = g_update(toy, start)[1]
    on = g_update(with_values(toy, "loss", diversity_weight=2.0), start)
    assert off["g/diversity"] == 0
    assert 0 < on[1]["g/diversity"] <= 4 * 2.0 + 1e-3
    assert on[0].generator.params["gain"] != start.generator.params["gain"]


def test_spectrum_loss_trains_the_generator(toy, start):
    striped = dataclasses.replace(toy, generator=Grey((1, -1, 1, -1)))
    gans = [with_values(striped, "loss", spectrum_weight=x) for x in (0.0, 1.0, 3.0)]
    off, one, three = (g_update(gan, start) for gan in gans)
    assert off[1]["g/spectrum"] == 0 < one[1]["g/spectrum"]
    tripled = 3 * one[1]["g/spectrum"]
    np.testing.assert_allclose(three[1]["g/spectrum"], tripled, rtol=1e-4)
    gains = {float(x[0].generator.params["gain"]) for x in (off, one, three)}
    assert len(gains) == 3


def test_pair_loss_draws_one_latent_for_all_classes_and_compares_them(toy, start):
    with_pairs = with_values(toy, "loss", pair_weight=0.5)
    params = start.generator.params | {"bias": np.array([0.1, 0.4], np.float32)}
    start = start.replace(generator=start.generator.replace(params=params))
    state, metrics, inputs = g_update(with_pairs, start)
    z = np.asarray(inputs.z)
    np.testing.assert_array_equal(z[::2], z[1::2])
    assert len(np.unique(z[::2, 0])) == 4
    assert metrics["g/pair"] == pytest.approx(0.5 * 0.3, abs=0.006)
    off, metrics, _ = g_update(toy, start)
    assert metrics["g/pair"] == 0
    moved = state.generator.params["bias"] - off.generator.params["bias"]
    assert moved[0] > 0 > moved[1]  # towards each other


@pytest.mark.parametrize(
    ("inside", "factor"), [(slice(4, 28), INNER_CHANGE), (slice(0, 32), None)]
)
def test_pair_loss_weighs_the_frame_more_than_the_rest(gan, inside, factor):
    gan = with_values(gan, "loss", pair_weight=2.0)
    images = np.zeros((2, 32, 32, 1), np.float32)
    images[1, inside, inside] = 1.0
    inner = 24**2 / 32**2 * INNER_CHANGE
    expected = inner if factor else inner + 1 - 24**2 / 32**2
    assert pair_loss(gan, jnp.asarray(images)) == pytest.approx(2 * expected, rel=0.011)
