"""One round of the game, as pure functions of one device's share of the batch."""

from collections.abc import Callable
from typing import NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax

from cxr_gan import balance, images
from cxr_gan.gan import Gan
from cxr_gan.microbatches import Means, in_parts
from cxr_gan.schedule import factors
from cxr_gan.state import Player, TrainState
from cxr_gan.terms import (
    Metrics,
    judge,
    lazy_penalty,
    matching,
    repetition,
    shown_to_d,
    signs_of_balance,
)

AXIS = "batch"  # the mapped axis: devices


class Round(NamedTuple):
    """What both players are dealt, example by example."""

    real: jax.Array  # float32 [n, s, s, 1] in [-1, 1]
    label: jax.Array  # int32 [n]; of the real image, and asked of the generated one
    z: jax.Array  # float32 [n, latent]
    keys: jax.Array  # [n, 3]: augmentation of real, of generated for D, for G


class Drawn(NamedTuple):
    """G's answer to a round, and the way back to its weights."""

    fake: jax.Array  # float32 [n, s, s, 1] in [-1, 1]
    pull: Callable[[jax.Array], optax.Params]  # d loss / d fake -> d loss / d params


def deal(gan: Gan, batch: dict[str, jax.Array], rng: jax.Array) -> Round:
    """Noise and augmentation by an example's place in the global batch."""
    n = batch["label"].shape[0]
    chex.assert_is_divisible(n, gan.group)
    place = lax.axis_index(AXIS) * n + jnp.arange(n)
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(rng, i), 4))(place)
    z = jax.vmap(lambda key: jax.random.normal(key, (gan.latent_size,)))(keys[:, 0])
    return Round(images.from_uint8(batch["image"]), batch["label"], z, keys[:, 1:])


def generate(gan: Gan, params: optax.Params, dealt: Round, told: jax.Array) -> Drawn:
    """G's images of this round.

    Both turns use them: G does not change between the two, so it runs forward once;
    of a batch in parts it keeps none of the way back, and runs forward again. told is
    how much of its label G is told: float32 [], from 0 to 1.
    """

    def draw(params: optax.Params, z: jax.Array, label: jax.Array) -> jax.Array:
        fake = gan.generator.apply({"params": params}, z, label, told)
        return cast(jax.Array, fake)

    def pull_part(
        z: jax.Array, label: jax.Array, toward: jax.Array
    ) -> tuple[optax.Params, None]:
        _, pull = jax.vjp(lambda params: draw(params, z, label), params)
        return pull(toward)[0], None

    noise = dealt.z, dealt.label
    if gan.microbatches == 1:
        fake, pull = jax.vjp(lambda params: draw(params, *noise), params)
        return Drawn(fake, lambda toward: pull(toward)[0])
    _, fake = in_parts(
        gan.microbatches, lambda *part: (None, draw(params, *part)), *noise
    )
    return Drawn(
        fake, lambda toward: in_parts(gan.microbatches, pull_part, *noise, toward)[0]
    )


def update_discriminator(
    gan: Gan, state: TrainState, dealt: Round, drawn: Drawn, speed: jax.Array
) -> tuple[TrainState, Metrics]:
    """D's turn: real images towards real and their class, generated ones away."""
    player = state.discriminator
    classing = factors(gan.schedule, state.step).condition * gan.loss.class_weight_d

    def uphill(
        dealt: Round, fake: jax.Array
    ) -> tuple[tuple[optax.Params, Metrics], None]:
        real = shown_to_d(gan, state.lead, dealt.real, dealt.keys[:, 0])
        shown = shown_to_d(gan, state.lead, fake, dealt.keys[:, 1])
        both = jnp.concatenate([real, shown])

        def loss(params: optax.Params) -> tuple[jax.Array, Metrics]:
            seen = judge(gan, params, both, state.step)
            on_real, on_fake = jnp.split(seen.realness, 2)
            logits, of_fake = jnp.split(seen.pathology, 2)
            adversarial = gan.adversarial.discriminator(on_real, on_fake).mean()
            classes = gan.classes.discriminator(logits, of_fake, dealt.label).mean()
            return adversarial + classing * classes, {
                "d/adversarial": adversarial,
                "d/class": classes,
                **signs_of_balance(gan, on_real, on_fake, logits, dealt.label),
            }

        slope, metrics = jax.grad(loss, has_aux=True)(player.params)
        penalty, slope = lazy_penalty(
            gan, player.params, real, shown, state.step, slope
        )
        return (slope, {**metrics, "d/penalty": penalty}), None

    means, _ = in_parts(gan.microbatches, uphill, dealt, drawn.fake)
    slope, metrics = over_devices(means)
    player = learn(player, gan.optimizer_d, slope, speed)
    return state.replace(discriminator=player), metrics


def update_generator(
    gan: Gan, state: TrainState, dealt: Round, drawn: Drawn, speed: jax.Array
) -> tuple[TrainState, Metrics]:
    """G's turn: towards images that the new D calls real and of the class asked for."""
    referee = state.discriminator.params
    classing = factors(gan.schedule, state.step).condition * gan.loss.class_weight_g

    def uphill(dealt: Round, fake: jax.Array) -> tuple[Metrics, jax.Array]:
        real = shown_to_d(gan, state.lead, dealt.real, dealt.keys[:, 0])
        beside = judge(gan, referee, real, state.step)  # compiled where it is used

        def loss(fake: jax.Array) -> tuple[jax.Array, Metrics]:
            shown = shown_to_d(gan, state.lead, fake, dealt.keys[:, 2])
            seen = judge(gan, referee, shown, state.step)
            adversarial = gan.adversarial.generator(
                beside.realness, seen.realness
            ).mean()
            classes = gan.classes.generator(seen.pathology, dealt.label).mean()
            match = matching(gan, beside.features, seen.features, dealt.label)
            repeat = repetition(gan, dealt.real, fake)
            total = adversarial + classing * classes + match + repeat
            return total, {
                "g/adversarial": adversarial,
                "g/class": classes,
                "g/matching": match,
                "g/repetition": repeat,
            }

        toward, metrics = jax.grad(loss, has_aux=True)(fake)
        return metrics, toward

    player = state.generator
    metrics, toward = in_parts(gan.microbatches, uphill, dealt, drawn.fake)
    slope, metrics = over_devices((drawn.pull(toward), metrics))
    player = learn(player, gan.optimizer_g, slope, speed)
    return state.replace(generator=player), metrics


def over_devices(means: Means) -> Means:
    """Means over each device's share -> over all; XLA:CPU would copy those of one."""
    alone = lax.axis_size(AXIS) == 1
    return means if alone else cast(Means, lax.pmean(means, AXIS))


def learn(
    player: Player,
    optimizer: optax.GradientTransformation,
    slope: optax.Params,
    speed: jax.Array,
) -> Player:
    """One descent along the global mean's slope; `speed` scales it after Adam."""
    updates, opt_state = optimizer.update(slope, player.opt_state, player.params)
    updates = jax.tree.map(lambda u: speed * u, updates)
    return Player(optax.apply_updates(player.params, updates), opt_state)


def average(gan: Gan, state: TrainState) -> optax.Params:
    """The generator's running mean, its half-life ramped up with the images seen.

    Source: the code published with Karras et al. 2020, "Training Generative
    Adversarial Networks with Limited Data" (ema_kimg, ema_rampup).
    """
    kimg = gan.schedule.batch_kimg
    seen = kimg * (state.step + 1)
    halflife = jnp.minimum(gan.ema_halflife_kimg, gan.ema_rampup * seen)
    keep = 0.5 ** (kimg / halflife)
    return optax.incremental_update(state.generator.params, state.ema, 1 - keep)


def non_finite(state: TrainState) -> jax.Array:
    """How many arrays of both players' weights hold NaN or infinity; float32 [].

    Their sums tell: read once, and written nowhere.
    """
    params = (state.discriminator.params, state.generator.params)
    sums = jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(params)])
    return jnp.sum(~jnp.isfinite(sums), dtype=jnp.float32)


def train_step(
    gan: Gan, state: TrainState, batch: dict[str, jax.Array], rng: jax.Array
) -> tuple[TrainState, Metrics]:
    """Plays one round: D learns from real and fake images, then G answers the new D.

    Args:
        gan: networks, optimizers and losses; closed over, never traced.
        state: all that changes; donated, so do not use it after the call.
        batch: this device's share: {"image": uint8 [n, s, s, 1], "label": int32 [n]},
            whole groups of gan.group examples, equally many of each class in each.
        rng: the run's key, the same on every device. Step and example index are folded
            in here, so 1 and 8 devices, and a resumed run, draw the same noise.

    Returns:
        The next state, and metrics: float32 [] or [num_classes], means over the global
        batch, the same on every device.

    Source: Odena et al. 2017, "Auxiliary Classifier GANs", section 3.
    """
    planned, rule = factors(gan.schedule, state.step), gan.balance
    speeds = balance.speeds(state.lead, rule.low, rule.high, rule.strength)
    if not rule.enabled:
        speeds = balance.Speeds(jnp.ones(()), jnp.ones(()))
    dealt = deal(gan, batch, jax.random.fold_in(rng, state.step))
    drawn = generate(gan, state.generator.params, dealt, planned.condition)
    state, metrics_d = update_discriminator(
        gan, state, dealt, drawn, planned.rate * speeds.discriminator
    )
    state, metrics_g = update_generator(
        gan, state, dealt, drawn, planned.rate * speeds.generator
    )
    lead = balance.remember(
        state.lead,
        metrics_d["d/lead"] / gan.adversarial.span,
        gan.schedule.batch_kimg,
        rule.halflife_kimg,
    )
    state = state.replace(ema=average(gan, state), step=state.step + 1, lead=lead)
    return state, {
        **metrics_d,
        **metrics_g,
        "balance/d_speed": speeds.discriminator,
        "balance/g_speed": speeds.generator,
        "balance/decay": planned.rate,
        "balance/sharpness": planned.sharpness,
        "balance/condition": planned.condition,
        "state/non_finite": non_finite(state),
    }
