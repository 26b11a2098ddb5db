"""Adversarial, pathology, feature-matching and penalty losses, per example."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import softplus


class Adversarial(NamedTuple):
    """A matched pair; each maps realness float32 [n] to a loss float32 [n]."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]  # (real, fake)
    generator: Callable[[jax.Array, jax.Array], jax.Array]  # (real, fake)
    middle: float | None  # realness at which D calls an image neither real nor
    #                       generated; None: it tells but which of a pair is real
    span: float  # of realness between D's two targets; a lead is told in spans


class Classes(NamedTuple):
    """A matched pair; of logits float32 [n, answers * k] and label int [n] -> [n]."""

    # Of the logits of real and of generated images, and the label of both.
    discriminator: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    # Of the logits of generated images, and their label.
    generator: Callable[[jax.Array, jax.Array], jax.Array]
    answers: int  # of D for each of k classes: 1, or 2 where of generated ones, too


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """logits [n, k], label int [n] -> [n], in nats.

    Source: Odena et al. 2017, "Auxiliary Classifier GANs", eq. 3.
    """
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], -1)[:, 0]


def feature_matching(
    real: jax.Array, fake: jax.Array, label: jax.Array, num_classes: int
) -> jax.Array:
    """Squared distance of class means of D's features: real, fake [n, d] -> [d].

    Both sides carry the same label int [n], every class at least once; the mean over d
    is taken by the caller.

    Source: Salimans et al. 2016, "Improved Techniques for Training GANs", section 3.1,
    class by class.
    """
    member = jax.nn.one_hot(label, num_classes, axis=0)
    member = member / member.sum(1, keepdims=True)
    return ((member @ real - member @ fake) ** 2).mean(0)


def sameness(real: jax.Array, fake: jax.Array, num_classes: int) -> jax.Array:
    """How far from alike generated class-mates differ as real ones: -> [num_classes].

    real, fake [n, h, w, c], both with classes interleaved (0, 1, .., 0, 1, ..) and two
    of each or more. With a and b the mean absolute differences of neighbours, real and
    generated, (2 (a - b) / (a + b)) ** 2: 0 where they are equal, 4 where all generated
    ones are alike. a and b may change places, so the few images of a batch, whose a and
    b scatter, drive b neither above a nor below it; a bound from one side would drive
    it on, as half of the batches fall short of it by chance.

    Source: Yang et al. 2019, "Diversity-Sensitive Conditional Generative Adversarial
    Networks" (its regularizer), the measure taken from the real images of the batch.
    """

    def spread(x: jax.Array) -> jax.Array:
        mates = x.reshape(-1, num_classes, *x.shape[1:])
        return jnp.abs(mates - jnp.roll(mates, 1, 0)).mean((0, 2, 3, 4))

    a, b = spread(real), spread(fake)
    return (2 * (a - b) / (a + b + 1e-6)) ** 2


def gradient_penalty(
    realness: Callable[[jax.Array], jax.Array], image: jax.Array
) -> jax.Array:
    """Half the squared norm of d realness / d image: [n, h, w, c] -> [n].

    Source: Mescheder et al. 2018, "Which Training Methods for GANs do actually
    Converge?", eq. 9 (R1), without its weight.
    """
    slope = jax.grad(lambda x: realness(x).sum())(image)
    return 0.5 * (slope**2).sum((1, 2, 3))


ADVERSARIAL = {
    # Mao et al. 2017, "Least Squares GANs", eq. 9 with a=0, b=c=1.
    "least_squares": Adversarial(
        discriminator=lambda real, fake: 0.5 * (real - 1) ** 2 + 0.5 * fake**2,
        generator=lambda real, fake: 0.5 * (fake - 1) ** 2,
        middle=0.5,
        span=1.0,
    ),
    # Lim & Ye 2017, "Geometric GAN", eqs. 18 and 19.
    "hinge": Adversarial(
        discriminator=lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake),
        generator=lambda real, fake: -fake,
        middle=0.0,
        span=2.0,
    ),
    # Goodfellow et al. 2014, "Generative Adversarial Nets", eq. 1; G as in section 3.
    "logistic": Adversarial(
        discriminator=lambda real, fake: softplus(-real) + softplus(fake),
        generator=lambda real, fake: softplus(-fake),
        middle=0.0,
        span=4.0,  # no targets: from 12 % to 88 % sure
    ),
    # Jolicoeur-Martineau 2019, "The relativistic discriminator", section 4.1, with the
    # logistic loss; Huang et al. 2024, "The GAN is dead; long live the GAN!", eq. 2.
    "relativistic": Adversarial(
        discriminator=lambda real, fake: softplus(fake - real),
        generator=lambda real, fake: softplus(real - fake),
        middle=None,
        span=4.0,
    ),
}
CLASSES = {
    # As in Odena et al. 2017, section 3, but that generated images, which may not show
    # their class yet, teach D nothing of it.
    "real": Classes(
        discriminator=lambda real, fake, label: cross_entropy(real, label),
        generator=cross_entropy,
        answers=1,
    ),
    # Odena et al. 2017, "Auxiliary Classifier GANs", eq. 3.
    "both": Classes(
        discriminator=lambda real, fake, label: (
            cross_entropy(real, label) + cross_entropy(fake, label)
        ),
        generator=cross_entropy,
        answers=1,
    ),
    # Hou et al. 2022, "Conditional GANs with Auxiliary Discriminative Classifier"
    # (ADC-GAN): D tells real from generated class by class.
    "discriminating": Classes(
        discriminator=lambda real, fake, label: (
            cross_entropy(real, label)
            + cross_entropy(fake, label + fake.shape[-1] // 2)
        ),
        generator=lambda fake, label: (
            cross_entropy(fake, label)
            - cross_entropy(fake, label + fake.shape[-1] // 2)
        ),
        answers=2,
    ),
}
