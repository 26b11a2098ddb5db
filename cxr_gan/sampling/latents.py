"""The latents of generated images, and the arc between two of them."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np

from cxr_gan.models.registry import GeneratorConfig
from cxr_gan.runtime.cpu import on_cpu
from cxr_gan.sampling import arguments
from cxr_gan.sampling.arguments import Rng


def chunk_size() -> int:
    """Latents, or images, that one call of the compiled program makes; a power of two.

    `sampler.sample` divides a request where the index is a multiple of it.
    """
    return 8 if on_cpu() else 128


def draw(
    config: GeneratorConfig, n: int, rng: Rng, start: int | jax.Array = 0
) -> jax.Array:
    """Draws normal latents; latent i depends only on (rng, start + i).

    Args:
        config: of the generator.
        n: number of latents.
        rng: as in `sampler.sample`.
        start: index of the first latent.

    Returns:
        float32 [n, config.latent_size].

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
    """
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"n={n!r} is not an int; use the number of latents") from None
    if n < 0:
        raise ValueError(f"n={n} is negative; use the number of latents")
    key = arguments.as_key(rng)
    first = arguments.as_start(start, n)
    if arguments.is_traced((key, first)):
        return draw_block(config.latent_size, n, key, jnp.uint32(first))
    size = chunk_size() if n > 1 else 1
    parts = [
        draw_block(config.latent_size, size, key, np.uint32(first + i))
        for i in range(0, n, size)
    ]
    empty = jnp.zeros((0, config.latent_size))
    return jnp.concatenate([empty, *parts])[:n]


@functools.partial(jax.jit, static_argnums=(0, 1))
def draw_block(size: int, n: int, key: jax.Array, first: jax.Array) -> jax.Array:
    """Latents of the indices first, first + 1, ...: float32 [n, size]."""
    index = first + jnp.arange(n, dtype=jnp.uint32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    return jax.vmap(lambda k: jax.random.normal(k, (size,), jnp.float32))(keys)


def on_arc(a: jax.Array, b: jax.Array, steps: int) -> jax.Array:
    """Latents at equal angles from a to b, both included.

    A straight line between normal latents passes through shorter ones, whose images are
    less varied.

    Args:
        a: float32 [n, d].
        b: float32 [n, d].
        steps: number of latents on each arc, at least 2.

    Returns:
        float32 [n, steps, d].

    Source: White 2016, "Sampling Generative Networks", section 2.1.
    """
    length = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    cosine = jnp.sum(a * b, -1) / jnp.where(length > 0, length, 1)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))[:, None, None]
    t = jnp.linspace(0, 1, steps)[None, :, None]
    sine = jnp.sin(angle)
    is_line = sine < 1e-4  # parallel latents: the weights below would be 0 / 0
    safe = jnp.where(is_line, 1, sine)
    of_a = jnp.where(is_line, 1 - t, jnp.sin((1 - t) * angle) / safe)
    of_b = jnp.where(is_line, t, jnp.sin(t * angle) / safe)
    return of_a * a[:, None] + of_b * b[:, None]
