"""Weighted loss terms and metrics of the discriminator and generator updates."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cxr_gan import losses
from cxr_gan.models.layers import normalize
from cxr_gan.training import gd_balance
from cxr_gan.training.augmentation import augment
from cxr_gan.training.gan import GanDefinition

Metrics = dict[str, jax.Array]  # float32 [], or [num_classes] where named *_by_class
DIVERSITY_SIZE = 16  # pixels per side at which the diversity of images is compared
INNER_CHANGE = 0.25  # factor of the pair loss inside of the frame


def augment_for_d(
    gan: GanDefinition, score_gap: jax.Array, images: jax.Array, keys: jax.Array
) -> jax.Array:
    """Augments all images or, if adaptive, a fraction that rises with the score gap.

    Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited
    Data", section 3.1, with the fraction proportional to the gap.
    """
    if not gan.config.augment.adaptive:
        return augment(images, keys, gan.augment_policies)
    fraction = gd_balance.normalized_gap(score_gap, gan.config.balance)
    return augment(images, keys, gan.augment_policies, fraction)


def lazy_gradient_penalty(
    gan: GanDefinition,
    params: optax.Params,
    real: jax.Array,
    fake: jax.Array,
    step: jax.Array,
    grads: optax.Params,
) -> tuple[jax.Array, optax.Params]:
    """Weighted R1 on real plus R2 on generated images -> (penalty [], updated grads).

    Evaluated every r1_interval steps, multiplied by r1_interval; 0 in between. Always
    in float32.

    The gradient is taken and added inside the branch: outside, every step would store
    the residuals of the penalty, as zeros, and add zeros.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of
    StyleGAN", section 3.1 (lazy regularization).
    """
    interval = gan.config.loss.r1_interval
    terms = [(gan.config.loss.r1_weight, real), (gan.config.loss.r2_weight, fake)]
    terms = [(weight, images) for weight, images in terms if weight]
    if not terms:
        return jnp.zeros(()), grads
    in_float32 = gan.discriminator.clone(dtype=jnp.float32)
    gan_float32 = dataclasses.replace(gan, discriminator=in_float32)

    def penalty(params: optax.Params) -> jax.Array:
        def score(image: jax.Array) -> jax.Array:
            return gan_float32.discriminate(params, image).score

        each = (
            weight * losses.gradient_penalty(score, images).mean()
            for weight, images in terms
        )
        return interval * sum(each, jnp.zeros(()))

    def evaluate() -> tuple[jax.Array, optax.Params]:
        value, gradient = jax.value_and_grad(penalty)(params)
        return value, jax.tree.map(jnp.add, grads, gradient)

    return lax.cond(step % interval == 0, evaluate, lambda: (jnp.zeros(()), grads))


def diversity_loss(gan: GanDefinition, real: jax.Array, fake: jax.Array) -> jax.Array:
    """Weighted mismatch of within-class variation; both [n, s, s, 1] -> [].

    Images are compared at DIVERSITY_SIZE pixels, each normalised to the same brightness
    and contrast; otherwise G could repeat one anatomy at many exposures.
    """
    weight = gan.config.loss.diversity_weight
    if not weight:
        return jnp.zeros(())
    size = min(DIVERSITY_SIZE, gan.resolution)

    def shrink(x: jax.Array) -> jax.Array:
        block = gan.resolution // size
        x = x.reshape(-1, size, block, size, block, 1).mean((2, 4))
        return normalize(x).reshape(-1, gan.group_size, size, size, 1)

    compare = jax.vmap(lambda r, f: losses.diversity(r, f, gan.num_classes))
    return weight * compare(shrink(real), shrink(fake)).mean()


def spectrum_loss(gan: GanDefinition, real: jax.Array, fake: jax.Array) -> jax.Array:
    """Weighted mismatch of log power; both [n, s, s, 1] -> []."""
    weight = gan.config.loss.spectrum_weight
    if not weight:
        return jnp.zeros(())
    groups = (-1, gan.group_size, gan.resolution, gan.resolution, 1)
    compare = jax.vmap(lambda r, f: losses.spectrum(r, f, gan.num_classes))
    mismatch = compare(real.reshape(groups), fake.reshape(groups)).mean()
    return weight * mismatch


def pair_loss(gan: GanDefinition, fake: jax.Array) -> jax.Array:
    """Weighted change of images [n, s, s, 1] with their class, for equal latents -> [].

    In the frame, the outer eighth of each side, no disease shows. Elsewhere the change
    counts INNER_CHANGE as much.
    """
    weight = gan.config.loss.pair_weight
    if not weight:
        return jnp.zeros(())
    inner = slice(gan.resolution // 8, -(gan.resolution // 8))
    factor = jnp.ones((gan.resolution, gan.resolution, 1))
    factor = factor.at[inner, inner].set(INNER_CHANGE)
    return weight * (factor * losses.class_change(fake, gan.num_classes)).mean()


def discriminator_metrics(
    gan: GanDefinition,
    real_score: jax.Array,
    fake_score: jax.Array,
    real_logits: jax.Array,
    label: jax.Array,
) -> Metrics:
    """Accuracies and score gap of D; float32 [], and [num_classes] by class."""
    member = jax.nn.one_hot(label, gan.num_classes, axis=0)
    mean_of_class = member / member.sum(1, keepdims=True)
    threshold = gan.adversarial.decision_threshold
    real_correct = real_score > (fake_score if threshold is None else threshold)
    fake_correct = fake_score <= (real_score if threshold is None else threshold)
    class_correct = real_logits.argmax(-1) == label
    real_correct, fake_correct, class_correct = (
        correct.astype(jnp.float32)
        for correct in (real_correct, fake_correct, class_correct)
    )
    gap = real_score - fake_score
    return {
        "d/accuracy_real": real_correct.mean(),
        "d/accuracy_fake": fake_correct.mean(),
        "d/accuracy_class": class_correct.mean(),
        "d/score_gap": gap.mean(),
        "d/accuracy_real_by_class": mean_of_class @ real_correct,
        "d/accuracy_fake_by_class": mean_of_class @ fake_correct,
        "d/score_gap_by_class": mean_of_class @ gap,
    }
