"""Images as arrays: between pixels [0, 255] and what the networks read [-1, 1]."""

import jax
import jax.numpy as jnp


def from_uint8(images: jax.Array) -> jax.Array:
    """uint8 [...] -> float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def to_unit(images: jax.Array) -> jax.Array:
    """float32 [...] in [-1, 1] -> float32 in [0, 1]; anything outside is clipped."""
    return jnp.clip(images * 0.5 + 0.5, 0, 1)


def to_uint8(images: jax.Array) -> jax.Array:
    """float32 [...] in [-1, 1] -> uint8, rounded to nearest; outside is clipped."""
    return jnp.round(to_unit(images) * 255).astype(jnp.uint8)
