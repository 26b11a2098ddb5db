"""What takes more than a line of both turns; losses come with their weights."""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cxr_gan import balance
from cxr_gan.augment import augment
from cxr_gan.gan import Gan
from cxr_gan.losses import feature_matching, gradient_penalty, sameness
from cxr_gan.models.discriminator import Judgement
from cxr_gan.models.layers import normalize
from cxr_gan.schedule import factors

Metrics = dict[str, jax.Array]
AFAR = 16  # pixels a side, at which images are compared for sameness


def judge(
    gan: Gan, params: optax.Params, image: jax.Array, step: jax.Array
) -> Judgement:
    """D's judgement of float32 [n, s, s, 1] in [-1, 1], as sharp as it sees by now."""
    sharpness = factors(gan.schedule, step).sharpness
    seen = gan.discriminator.apply({"params": params}, image, sharpness)
    return cast(Judgement, seen)


def shown_to_d(
    gan: Gan, lead: jax.Array, images: jax.Array, keys: jax.Array
) -> jax.Array:
    """Augmented, all of them or, where D leads the more, the more: [n, s, s, 1].

    Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited
    Data", section 3.1, steered in proportion to the lead instead of by steps.
    """
    if not gan.augment_by_lead:
        return augment(images, keys, gan.policies)
    share = balance.confidence(lead, gan.balance.low, gan.balance.high)
    return augment(images, keys, gan.policies, share)


def lazy_penalty(
    gan: Gan,
    params: optax.Params,
    real: jax.Array,
    fake: jax.Array,
    step: jax.Array,
    slope: optax.Params,
) -> tuple[jax.Array, optax.Params]:
    """R1 on real images and R2 on generated ones, as D sees them; slope, theirs added.

    Every few steps, and as many times as strong; 0 in between, and float32 at any
    precision. Their slope is taken within the branch: taken of the branch, every step
    would write out, in zeros, all that the penalty keeps for its way back; added there,
    too, or every step would add zeros.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of
    StyleGAN", section 3.1 (lazy regularization).
    """
    every = gan.loss.r1_every
    weighed = [(gan.loss.r1_weight, real), (gan.loss.r2_weight, fake)]
    weighed = [(weight, images) for weight, images in weighed if weight]

    if not weighed:
        return jnp.zeros(()), slope

    exact = gan.discriminator.clone(dtype=jnp.float32)
    exactly = dataclasses.replace(gan, discriminator=exact)

    def penalty(params: optax.Params) -> jax.Array:
        def realness(image: jax.Array) -> jax.Array:
            return judge(exactly, params, image, step).realness

        return every * sum(
            (
                weight * gradient_penalty(realness, images).mean()
                for weight, images in weighed
            ),
            jnp.zeros(()),
        )

    def some() -> tuple[jax.Array, optax.Params]:
        punished, more = jax.value_and_grad(penalty)(params)
        return punished, jax.tree.map(jnp.add, slope, more)

    return lax.cond(step % every == 0, some, lambda: (jnp.zeros(()), slope))


def matching(gan: Gan, real: jax.Array, fake: jax.Array, label: jax.Array) -> jax.Array:
    """Distance of class means of D's features [n, d], group by group -> []."""
    weight = gan.loss.feature_matching
    if not weight:
        return jnp.zeros(())
    grouped = [x.reshape(-1, gan.group, *x.shape[1:]) for x in (real, fake, label)]
    distance = jax.vmap(lambda r, f, y: feature_matching(r, f, y, gan.num_classes))
    return weight * distance(*grouped).mean()


def repetition(gan: Gan, real: jax.Array, fake: jax.Array) -> jax.Array:
    """Sameness of G's images, group by group; both [n, s, s, 1] -> [].

    They are compared from afar, and each at the same brightness and contrast: or else G
    would repeat one anatomy at many exposures.
    """
    weight = gan.loss.sameness_weight
    if not weight:
        return jnp.zeros(())
    size = min(AFAR, gan.resolution)

    def afar(x: jax.Array) -> jax.Array:
        block = gan.resolution // size
        x = x.reshape(-1, size, block, size, block, 1).mean((2, 4))
        return normalize(x).reshape(-1, gan.group, size, size, 1)

    compare = jax.vmap(lambda r, f: sameness(r, f, gan.num_classes))
    return weight * compare(afar(real), afar(fake)).mean()


def signs_of_balance(
    gan: Gan,
    on_real: jax.Array,
    on_fake: jax.Array,
    logits: jax.Array,
    label: jax.Array,
) -> Metrics:
    """What tells which player leads; float32 [], and [num_classes] class by class."""
    member = jax.nn.one_hot(label, gan.num_classes, axis=0)
    share = member / member.sum(1, keepdims=True)
    middle = gan.adversarial.middle
    right_real = on_real > (on_fake if middle is None else middle)
    right_fake = on_fake <= (on_real if middle is None else middle)
    right_class = logits[:, : gan.num_classes].argmax(-1) == label
    right_real, right_fake, right_class = (
        right.astype(jnp.float32) for right in (right_real, right_fake, right_class)
    )
    return {
        "d/accuracy_real": right_real.mean(),
        "d/accuracy_fake": right_fake.mean(),
        "d/accuracy_class": right_class.mean(),
        "d/lead": (on_real - on_fake).mean(),
        "d/accuracy_real_by_class": share @ right_real,
        "d/accuracy_fake_by_class": share @ right_fake,
        "d/lead_by_class": share @ (on_real - on_fake),
    }
