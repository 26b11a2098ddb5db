"""One training step of an auxiliary-classifier GAN: D, then G, then the EMA of G.

Pure functions of one device's shard of the batch. The steps of all devices together
equal the step of one device on the whole batch, up to rounding.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax

from cxr_gan.models import pixel_range
from cxr_gan.training import gd_balance
from cxr_gan.training.gan import GanDefinition
from cxr_gan.training.loss_terms import (
    Metrics,
    augment_for_d,
    discriminator_metrics,
    diversity_loss,
    lazy_gradient_penalty,
    pair_loss,
    spectrum_loss,
)
from cxr_gan.training.schedules import learning_rate_scale
from cxr_gan.training.train_state import NetworkState, TrainState

AXIS = "batch"  # name of the mapped device axis

VjpFn = Callable[[jax.Array], optax.Params]  # d loss / d fake -> d loss / d params
Tree = TypeVar("Tree")


class StepInputs(NamedTuple):
    """The inputs of both updates, one row per example."""

    real: jax.Array  # float32 [n, s, s, 1] in [-1, 1]
    label: jax.Array  # int32 [n]; class of the real and of the generated image
    z: jax.Array  # float32 [n, latent]
    keys: jax.Array  # [n, 3]: augmentation of real images in both updates, of fake
    #                  images in D's update, of fake images in G's update


def train_step(
    gan: GanDefinition,
    state: TrainState,
    batch: dict[str, jax.Array],
    rng: jax.Array,
) -> tuple[TrainState, Metrics]:
    """Runs one training step: D, then G, then the EMA.

    Args:
        gan: networks, optimizers and loss weights; static, closed over.
        state: all arrays that change; donated except on CPUs, so do not reuse it.
        batch: this device's shard: {"image": uint8 [n, s, s, 1], "label": int32 [n]};
            whole groups of gan.group_size examples, classes interleaved.
        rng: key of the run since its last rollback, identical on every device. Step
            and global example index are folded in, so results do not depend on the
            number of devices.

    Returns:
        The next state and metrics; those named d/ and g/ are averaged over the global
        batch.

    Source: Odena et al. 2017, "Auxiliary Classifier GANs", section 3.
    """
    lr_scale = learning_rate_scale(gan.config, state.step)
    scale_d, scale_g = gd_balance.update_scales(state.score_gap, gan.config.balance)
    inputs = prepare_inputs(gan, batch, jax.random.fold_in(rng, state.step))
    fake, vjp_fn = generator_forward(gan, state.generator.params, inputs)
    state, d_metrics = update_discriminator(gan, state, inputs, fake, lr_scale, scale_d)
    state, g_metrics = update_generator(
        gan, state, inputs, fake, vjp_fn, lr_scale, scale_g
    )
    score_gap = update_score_gap(gan, state, d_metrics["d/score_gap"])
    state = state.replace(
        ema=update_ema(gan, state), step=state.step + 1, score_gap=score_gap
    )
    return state, {
        **d_metrics,
        **g_metrics,
        "schedule/d_update_scale": scale_d,
        "schedule/g_update_scale": scale_g,
        "schedule/lr_scale": lr_scale,
        "state/non_finite": count_non_finite(state),
    }


def prepare_inputs(
    gan: GanDefinition, batch: dict[str, jax.Array], rng: jax.Array
) -> StepInputs:
    """Draws latents and augmentation keys by the index in the global batch.

    With a pair loss, the images of each class in turn have the same latent.
    """
    n = batch["label"].shape[0]
    chex.assert_is_divisible(n, gan.group_size)
    index = lax.axis_index(AXIS) * n + jnp.arange(n)
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(rng, i), 4))(index)
    of_z = keys[:, 0]
    if gan.config.loss.pair_weight:
        of_z = of_z[:: gan.num_classes].repeat(gan.num_classes, 0)
    z = jax.vmap(lambda key: jax.random.normal(key, (gan.latent_size,)))(of_z)
    image = pixel_range.from_uint8(batch["image"])
    return StepInputs(image, batch["label"], z, keys[:, 1:])


def generator_forward(
    gan: GanDefinition, params: optax.Params, inputs: StepInputs
) -> tuple[jax.Array, VjpFn]:
    """G's images [n, s, s, 1], and the map from their gradient to that of the params.

    Both updates use them: G does not change between the two, so it runs forward once.
    """
    fake, vjp_fn = jax.vjp(lambda p: gan.generate(p, inputs.z, inputs.label), params)
    return fake, lambda gradient: vjp_fn(gradient)[0]


def update_discriminator(
    gan: GanDefinition,
    state: TrainState,
    inputs: StepInputs,
    fake: jax.Array,
    lr_scale: jax.Array,
    scale: jax.Array,
) -> tuple[TrainState, Metrics]:
    """Updates D with the adversarial loss, the class loss and the gradient penalty."""
    params = state.discriminator.params
    real = augment_for_d(gan, state.score_gap, inputs.real, inputs.keys[:, 0])
    fake = augment_for_d(gan, state.score_gap, fake, inputs.keys[:, 1])
    images = jnp.concatenate([real, fake])

    def loss(params: optax.Params) -> tuple[jax.Array, Metrics]:
        output = gan.discriminate(params, images)
        real_score, fake_score = jnp.split(output.score, 2)
        real_logits, fake_logits = jnp.split(output.class_logits, 2)
        adversarial = gan.adversarial.discriminator(real_score, fake_score).mean()
        class_loss = gan.class_loss.discriminator(
            real_logits, fake_logits, inputs.label
        ).mean()
        return adversarial + gan.config.loss.class_weight.d * class_loss, {
            "d/adversarial": adversarial,
            "d/class": class_loss,
            **discriminator_metrics(
                gan, real_score, fake_score, real_logits, inputs.label
            ),
        }

    grads, metrics = jax.grad(loss, has_aux=True)(params)
    metrics["d/r1"], grads = lazy_gradient_penalty(
        gan, params, real, fake, state.step, grads
    )
    grads, metrics = pmean_grads((grads, metrics))
    network = apply_gradients(
        state.discriminator, gan.optimizer_d, grads, lr_scale * scale
    )
    return state.replace(discriminator=network), metrics


def update_generator(
    gan: GanDefinition,
    state: TrainState,
    inputs: StepInputs,
    fake: jax.Array,
    vjp_fn: VjpFn,
    lr_scale: jax.Array,
    scale: jax.Array,
) -> tuple[TrainState, Metrics]:
    """Updates G against the updated D, with all losses of G."""
    d_params = state.discriminator.params
    real = augment_for_d(gan, state.score_gap, inputs.real, inputs.keys[:, 0])
    real_output = gan.discriminate(d_params, real)  # removed by XLA where unused

    def loss(fake: jax.Array) -> tuple[jax.Array, Metrics]:
        augmented = augment_for_d(gan, state.score_gap, fake, inputs.keys[:, 2])
        output = gan.discriminate(d_params, augmented)
        adversarial = gan.adversarial.generator(real_output.score, output.score).mean()
        class_loss = gan.class_loss.generator(output.class_logits, inputs.label).mean()
        diversity = diversity_loss(gan, inputs.real, fake)
        spectrum = spectrum_loss(gan, inputs.real, fake)
        pair = pair_loss(gan, fake)
        total = adversarial + gan.config.loss.class_weight.g * class_loss
        return total + diversity + spectrum + pair, {
            "g/adversarial": adversarial,
            "g/class": class_loss,
            "g/diversity": diversity,
            "g/spectrum": spectrum,
            "g/pair": pair,
        }

    gradient, metrics = jax.grad(loss, has_aux=True)(fake)
    grads, metrics = pmean_grads((vjp_fn(gradient), metrics))
    network = apply_gradients(state.generator, gan.optimizer_g, grads, lr_scale * scale)
    return state.replace(generator=network), metrics


def pmean_grads(tree: Tree) -> Tree:
    """Means of gradients and metrics over all devices.

    With one device nothing is done: XLA:CPU would copy the arrays.
    """
    if lax.axis_size(AXIS) == 1:
        return tree
    return cast(Tree, lax.pmean(tree, AXIS))


def apply_gradients(
    network: NetworkState,
    optimizer: optax.GradientTransformation,
    grads: optax.Params,
    scale: jax.Array,
) -> NetworkState:
    """One optimizer step; `scale` multiplies the update."""
    updates, opt_state = optimizer.update(grads, network.opt_state, network.params)
    updates = jax.tree.map(lambda u: scale * u, updates)
    return NetworkState(optax.apply_updates(network.params, updates), opt_state)


def update_score_gap(
    gan: GanDefinition, state: TrainState, score_gap: jax.Array
) -> jax.Array:
    """The moving average of the score gap, in units of the distance of D's targets."""
    return gd_balance.ema(
        state.score_gap,
        score_gap / gan.adversarial.target_distance,
        gan.config.batch_size / 1000,
        gan.config.balance.halflife_kimg,
    )


def update_ema(gan: GanDefinition, state: TrainState) -> optax.Params:
    """The moving average of G's params; its half-life grows with the images seen.

    Source: the code published with Karras et al. 2020, "Training Generative
    Adversarial Networks with Limited Data" (ema_kimg, ema_rampup).
    """
    kimg = gan.config.batch_size / 1000
    seen = kimg * (state.step + 1)
    halflife = jnp.minimum(gan.config.ema_halflife_kimg, gan.config.ema_rampup * seen)
    keep = 0.5 ** (kimg / halflife)
    return optax.incremental_update(state.generator.params, state.ema, 1 - keep)


def count_non_finite(state: TrainState) -> jax.Array:
    """How many parameter arrays of both networks contain NaN or infinity; float32 [].

    A sum over an array is non-finite if an element is, and needs no extra memory.
    """
    params = (state.discriminator.params, state.generator.params)
    sums = jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(params)])
    return jnp.sum(~jnp.isfinite(sums), dtype=jnp.float32)
