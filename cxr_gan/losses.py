"""Adversarial, class, diversity, spectrum, pair and gradient-penalty losses.

All are per example, per pixel or per class; the caller takes the mean and applies the
weights.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import softplus
from scipy import fft

CHANGE_SMOOTHNESS = 0.01  # of a range of 2: 1.3 grey levels of 256
SPECTRUM_BLOCK = 16  # pixels a side of the blocks whose power is compared
GREY_LEVEL = 2 / 255  # of 256, in the range of 2
# Rounding to grey levels adds this power at each frequency, as uniform noise.
MIN_POWER = GREY_LEVEL**2 / 12


class AdversarialLoss(NamedTuple):
    """A matched pair; each maps scores (real, fake) float32 [n] to a loss [n]."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array, jax.Array], jax.Array]
    decision_threshold: float | None  # score that separates real from generated; None:
    #                    only the difference of a real and a generated image is trained
    target_distance: float  # between D's targets for real and generated images; unit of
    #                         the normalised score gap


class ClassLoss(NamedTuple):
    """A matched pair; class logits float32 [n, k] and label int [n] -> loss [n]."""

    # (logits of real images, logits of generated images, label of both)
    discriminator: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    # (logits of generated images, their label)
    generator: Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """logits [n, k], label int [n] -> [n], in nats.

    Source: Odena et al. 2017, "Auxiliary Classifier GANs", eq. 3.
    """
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], -1)[:, 0]


def diversity(real: jax.Array, fake: jax.Array, num_classes: int) -> jax.Array:
    """Mismatch of within-class variation between real and generated: -> [num_classes].

    real, fake [n, h, w, c], both with classes interleaved (0, 1, .., 0, 1, ..) and at
    least two images of each class. With a and b the mean absolute differences of
    neighbouring images of a class, real and generated, it is (2 (a - b) / (a + b)) **
    2: 0 where a = b, 4 where all generated images are equal. It is symmetric in a and
    b, so the scatter of a and b in small batches has no net effect; a one-sided bound
    would raise b further, because half of the batches fall below it by chance.

    Source: Yang et al. 2019, "Diversity-Sensitive Conditional Generative Adversarial
    Networks" (its regularizer), with the target taken from the real images.
    """

    def spread(x: jax.Array) -> jax.Array:
        by_class = x.reshape(-1, num_classes, *x.shape[1:])
        return jnp.abs(by_class - jnp.roll(by_class, 1, 0)).mean((0, 2, 3, 4))

    a, b = spread(real), spread(fake)
    return (2 * (a - b) / (a + b + 1e-6)) ** 2


def log_power(images: jax.Array) -> jax.Array:
    """Mean logarithm of the power in blocks, by frequency: [n, s, s, 1] -> [n, k, k].

    k is half of SPECTRUM_BLOCK, or of s if that is less. Blocks of SPECTRUM_BLOCK x
    SPECTRUM_BLOCK pixels, less their mean, are transformed by the orthonormal discrete
    cosine transform (DCT-II). A cell is the mean power of 2 x 2 neighbouring
    coefficients. For white noise its expected value is the variance, except in the
    first cell, which lacks the mean. MIN_POWER is added, so that a constant block has a
    finite logarithm. The logarithms are averaged over the blocks: power in one place
    cannot replace power elsewhere, as it can in the spectrum of a whole image.

    Source: Ahmed et al. 1974, "Discrete Cosine Transform", scaled to be orthonormal.
    """
    size = min(SPECTRUM_BLOCK, images.shape[1])
    count, half = images.shape[1] // size, size // 2
    x = images.reshape(-1, count, size, count, size)
    x = x - x.mean((2, 4), keepdims=True)
    dct = jnp.asarray(fft.dct(np.eye(size), norm="ortho", axis=0), jnp.float32)
    transformed = jnp.einsum("kh,nihjw,lw->nikjl", dct, x, dct, precision="highest")
    power = transformed.reshape(-1, count, half, 2, count, half, 2) ** 2
    return jnp.log(power.mean((3, 6)) + MIN_POWER).mean((1, 3))


def spectrum(real: jax.Array, fake: jax.Array, num_classes: int) -> jax.Array:
    """Mismatch of the mean log power of real and generated images: -> [num_classes].

    real, fake [n, s, s, 1] in [-1, 1], both with classes interleaved (0, 1, .., 0, 1,
    ..) and m >= 2 images of each class. With d_i the difference of `log_power` of the
    i-th generated and the i-th real image of a class, the result is the mean of
    ((sum d_i)^2 - sum d_i^2) / (m (m - 1)) over cells: an unbiased estimate of the
    squared difference of the means of all images, which can be negative. Real images
    have 256 grey levels; generated ones are rounded to as many, with the gradient of
    the identity.

    Source: Durall et al. 2020, "Watch your Up-Convolution: CNN Based Generative Deep
    Neural Networks are Failing to Reproduce Spectral Distributions" (its spectral
    regularization), with blocks in place of whole images; for the unbiased estimate
    Gretton et al. 2012, "A Kernel Two-Sample Test", section 2.2, with a linear kernel.
    """
    levels = jnp.round((fake + 1) / GREY_LEVEL) * GREY_LEVEL - 1
    rounded = fake + lax.stop_gradient(levels - fake)
    d = log_power(rounded) - log_power(real)
    d = d.reshape(-1, num_classes, *d.shape[1:])
    m = len(d)
    estimate = (d.sum(0) ** 2 - (d**2).sum(0)) / (m * (m - 1))
    return estimate.mean((1, 2))


def class_change(images: jax.Array, num_classes: int) -> jax.Array:
    """What changes with the class alone: [n, h, w, c] -> [n / num_classes, h, w, c].

    Classes are interleaved (0, 1, .., 0, 1, ..), and each num_classes consecutive
    images have the same latent. It is the mean over neighbouring classes of
    (d^2 + e^2)^(1/2) - e, with d their difference and e = CHANGE_SMOOTHNESS: the
    absolute difference, with a continuous derivative at 0.

    Source: Charbonnier et al. 1994, "Two deterministic half-quadratic regularization
    algorithms for computed imaging", for the function of d.
    """
    by_latent = images.reshape(-1, num_classes, *images.shape[1:])
    difference = by_latent - jnp.roll(by_latent, 1, 1)
    smooth = jnp.sqrt(difference**2 + CHANGE_SMOOTHNESS**2) - CHANGE_SMOOTHNESS
    return smooth.mean(1)


def gradient_penalty(
    score: Callable[[jax.Array], jax.Array], image: jax.Array
) -> jax.Array:
    """Half the squared norm of d score / d image: [n, h, w, c] -> [n].

    Source: Mescheder et al. 2018, "Which Training Methods for GANs do actually
    Converge?", eq. 9 (R1), without its weight.
    """
    gradient = jax.grad(lambda x: score(x).sum())(image)
    return 0.5 * (gradient**2).sum((1, 2, 3))


# To add a loss, add one entry here.
ADVERSARIAL = {
    # Mao et al. 2017, "Least Squares GANs", eq. 9 with a=0, b=c=1.
    "least_squares": AdversarialLoss(
        discriminator=lambda real, fake: 0.5 * (real - 1) ** 2 + 0.5 * fake**2,
        generator=lambda real, fake: 0.5 * (fake - 1) ** 2,
        decision_threshold=0.5,
        target_distance=1.0,
    ),
    # Lim & Ye 2017, "Geometric GAN", eqs. 18 and 19.
    "hinge": AdversarialLoss(
        discriminator=lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake),
        generator=lambda real, fake: -fake,
        decision_threshold=0.0,
        target_distance=2.0,
    ),
    # Goodfellow et al. 2014, "Generative Adversarial Nets", eq. 1; G as in section 3.
    "logistic": AdversarialLoss(
        discriminator=lambda real, fake: softplus(-real) + softplus(fake),
        generator=lambda real, fake: softplus(-fake),
        decision_threshold=0.0,
        target_distance=4.0,  # no finite targets: from probability 0.12 to 0.88
    ),
    # Jolicoeur-Martineau 2019, "The relativistic discriminator", section 4.1, with the
    # logistic loss; Huang et al. 2024, "The GAN is dead; long live the GAN!", eq. 2.
    "relativistic": AdversarialLoss(
        discriminator=lambda real, fake: softplus(fake - real),
        generator=lambda real, fake: softplus(real - fake),
        decision_threshold=None,
        target_distance=4.0,
    ),
}
CLASS_LOSSES = {
    # Odena et al. 2017, section 3, without the generated images: they may not show
    # their class yet, so D learns no class from them.
    "real": ClassLoss(
        discriminator=lambda real, fake, label: cross_entropy(real, label),
        generator=cross_entropy,
    ),
    # Odena et al. 2017, "Auxiliary Classifier GANs", eq. 3.
    "both": ClassLoss(
        discriminator=lambda real, fake, label: (
            cross_entropy(real, label) + cross_entropy(fake, label)
        ),
        generator=cross_entropy,
    ),
}
