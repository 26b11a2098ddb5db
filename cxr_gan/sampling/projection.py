"""Finds latents whose generated images are nearest to given images.

The search starts from the random latent whose image is nearest, and follows the
gradient of the distance with Adam. Weights do not change.

Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN",
section 5 (projection), here into z and with a distance of pixels at several scales.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cxr_gan.models.layers import downsample
from cxr_gan.runtime import jax_config
from cxr_gan.sampling import sampler
from cxr_gan.sampling.sampler import GeneratorParams

CANDIDATES = 256  # random latents, the same for all classes
LEARNING_RATE = 0.1  # of Adam at the start; it falls to 0 as a cosine
LEAST_SIZE = 8  # px, the coarsest scale at which images are compared
PRIOR = 3e-4  # weight of the mean square of the latent, which is 1 for random ones


class Projection(NamedTuple):
    """Latents, and how far the images generated from them are from the given ones."""

    latents: np.ndarray  # float32 [n, d]
    error: np.ndarray  # float32 [n], mean absolute difference, pixels in [0, 1]


def distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean squared difference, averaged over scales: [n, s, s, 1] twice -> [n].

    The scales are s, s / 2, .. down to LEAST_SIZE pixels a side. Coarse scales place
    the anatomy, which fine ones alone do not find.
    """
    values = []
    while True:
        values.append(((a - b) ** 2).mean((1, 2, 3)))
        if a.shape[1] <= LEAST_SIZE:
            return jnp.stack(values).mean(0)
        a, b = downsample(a), downsample(b)


@jax_config.pinned()
def project(
    params: GeneratorParams,
    images: np.ndarray,
    labels: np.ndarray,
    start: np.ndarray,
    *,
    steps: int,
    on_step: Callable[[], object] = lambda: None,
) -> Projection:
    """Projects images, each under its label.

    Args:
        params: return value of `sampler.load`.
        images: uint8 [n, s, s, 1], s the generator's resolution.
        labels: int [n].
        start: float32 [n, d], latents from which the search starts.
        steps: of Adam, at least 1.
        on_step: called after each step.
    """
    given = images.astype(np.float32) / 255
    target, label = jnp.asarray(given), jnp.asarray(labels, jnp.int32)
    z, state = jnp.asarray(start), _optimizer(steps).init(start)
    for _ in range(steps):
        z, state = _step(steps, params, target, label, z, state)
        z.block_until_ready()
        on_step()
    found = np.asarray(sampler.sample(params, np.asarray(labels), latents=z))
    return Projection(np.asarray(z), np.abs(found - given).mean((1, 2, 3)))


@jax_config.pinned()
def nearest_candidates(
    params: GeneratorParams, images: np.ndarray, labels: np.ndarray, seed: int
) -> np.ndarray:
    """The nearest of CANDIDATES random latents, for each image; float32 [n, d].

    Args:
        params: return value of `sampler.load`.
        images: uint8 [n, s, s, 1].
        labels: int [n].
        seed: of the random latents.
    """
    z = np.asarray(sampler.latents(params, CANDIDATES, seed))
    nearest = np.empty(len(images), np.int64)
    for label in np.unique(labels):
        drawn = sampler.sample(params, np.full(CANDIDATES, label), latents=z)
        for row in np.flatnonzero(labels == label):
            given = jnp.asarray(images[row].astype(np.float32) / 255)
            nearest[row] = int(_distances(drawn, given).argmin())
    chosen: np.ndarray = z[nearest]
    return chosen


@jax.jit
def _distances(images: jax.Array, given: jax.Array) -> jax.Array:
    """`distance` of each image from the same one: [n, s, s, 1], [s, s, 1] -> [n]."""
    return distance(images, jnp.broadcast_to(given, images.shape))


def _optimizer(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))


@functools.partial(jax.jit, static_argnums=0)
def _step(
    steps: int,
    params: GeneratorParams,
    target: jax.Array,
    label: jax.Array,
    z: jax.Array,
    state: optax.OptState,
) -> tuple[jax.Array, optax.OptState]:
    """One step of Adam for all images; they do not affect each other."""

    def loss(z: jax.Array) -> jax.Array:
        images = sampler.sample(params, label, latents=z)
        return (distance(images, target) + PRIOR * (z**2).mean(-1)).sum()

    updates, state = _optimizer(steps).update(jax.grad(loss)(z), state, z)
    return optax.apply_updates(z, updates), state
