"""Conversion between pixels in [0, 255] and the networks' range [-1, 1]."""

import jax
import jax.numpy as jnp
import numpy as np


def from_uint8(images: jax.Array) -> jax.Array:
    """uint8 [...] -> float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def to_unit(images: jax.Array) -> jax.Array:
    """float32 [...] in [-1, 1] -> float32 in [0, 1]; values outside are clipped."""
    return jnp.clip(images * 0.5 + 0.5, 0, 1)


def to_uint8(images: jax.Array | np.ndarray) -> np.ndarray:
    """float32 [...] in [0, 1] -> uint8, rounded to nearest; values outside are clipped.

    Returns a NumPy array on the host.
    """
    return np.round(np.clip(np.asarray(images), 0, 1) * 255).astype(np.uint8)


def to_uint16(images: jax.Array | np.ndarray) -> np.ndarray:
    """float32 [...] in [0, 1] -> uint16, as `to_uint8`; 1 becomes 65535."""
    return np.round(np.clip(np.asarray(images), 0, 1) * 65535).astype(np.uint16)
