"""Validates and converts the arguments of `sampler.sample` before any compilation.

Under jit, vmap or grad the arguments are tracers: their shapes and dtypes are checked,
their values cannot be.
"""

import difflib
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cxr_gan.models.registry import GeneratorConfig

UINT32_RANGE = 2**32  # seeds and indices are below it: keys consist of 32-bit words
Labels = Sequence[int] | Sequence[str] | np.ndarray | jax.Array
Rng = int | np.ndarray | jax.Array


def is_traced(tree: Any) -> bool:
    """Whether any leaf is a tracer of jit, vmap or grad."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def as_labels(labels: Labels, class_names: tuple[str, ...]) -> Any:
    """Converts labels or class names to int32 [n].

    Args:
        labels: integers [n] from 0 to K-1, or n class names.
        class_names: index = label.

    Raises:
        TypeError: labels is a single str, or neither integers nor class names.
        ValueError: labels is not one-dimensional, or a label or name is unknown; the
            values of traced labels are not checked.
    """
    if isinstance(labels, str):
        raise TypeError(
            f"labels is a single str; for n images of this class use [{labels!r}] * n"
        )
    array = jnp.asarray(labels) if is_traced(labels) else np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(
            f"labels has shape {list(array.shape)}; must be [n], one label per image"
        )
    known = ", ".join(f"{i} = {name!r}" for i, name in enumerate(class_names))
    if not is_traced(array):
        values = array.tolist()
        if values and all(isinstance(label, str) for label in values):
            array = np.array([label_index(name, class_names) for name in values])
        for label in values:
            if isinstance(label, int) and not 0 <= label < len(class_names):
                raise ValueError(f"no class has label {label}; labels are {known}")
    if len(array) and not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"labels are {array.dtype}; use integers, or names outside jit: {known}"
        )
    return array.astype(np.int32)


def label_index(name: str, class_names: tuple[str, ...]) -> int:
    """The label of a class name; upper and lower case must match the dataset's.

    Raises:
        ValueError: no class has this name; suggests the closest one.
    """
    if name in class_names:
        return class_names.index(name)
    folded = {known.casefold(): known for known in class_names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f"did you mean {folded[close[0]]!r}? " if close else ""
    raise ValueError(
        f"no class is named {name!r}; {hint}classes are {', '.join(class_names)}"
    )


def as_key(rng: Rng) -> jax.Array:
    """Converts a seed, or a JAX key of any implementation, to a typed threefry key.

    The other implementations generate different numbers under vmap, so only the first
    two words of their keys are used. For a key made from a 32-bit seed these two words
    are the same in every implementation.

    Raises:
        TypeError: rng is not an int or a single key.
        ValueError: rng is an int outside 0 to 2**32 - 1.
    """
    is_int = isinstance(rng, int) and not isinstance(rng, bool)
    shape = np.shape(rng)
    dtype = getattr(rng, "dtype", np.dtype(int if is_int else object))
    if jnp.issubdtype(dtype, jax.dtypes.prng_key) and not shape:
        words = jax.random.key_data(rng)
    elif dtype == np.uint32 and shape in {(2,), (4,)}:
        words = jnp.asarray(rng)
    elif jnp.issubdtype(dtype, jnp.integer) and not shape:
        if not is_traced(rng) and not 0 <= int(rng) < UINT32_RANGE:
            raise ValueError(
                f"rng={rng} is out of range; use an int from 0 to {UINT32_RANGE - 1}"
            )
        # In JAX this conversion would take a tenth of the time to generate one image.
        array = jnp if is_traced(rng) else np
        words = array.asarray([0, rng], np.uint32)
    else:
        has_dtype = hasattr(rng, "dtype")
        kind = f"{dtype} {list(shape)}" if has_dtype else type(rng).__name__
        raise TypeError(
            f"rng is {kind}; use one int, jax.random.key(seed) or "
            "jax.random.PRNGKey(seed), and jax.vmap for several of them"
        )
    first_two = words if words.shape == (2,) else words[:2]
    return jax.random.wrap_key_data(first_two, impl="threefry2x32")


def as_latents(latents: Any, n: int, config: GeneratorConfig) -> Any:
    """Converts latents to float32 [n, d].

    Raises:
        TypeError: they are no floats.
        ValueError: the shape is another one, or a value is not finite; the values of
            traced latents are not checked.
    """
    array = jnp.asarray(latents) if is_traced(latents) else np.asarray(latents)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"latents are {array.dtype}; use floats, as cxr_gan.latents")
    if array.shape != (n, config.latent_size):
        raise ValueError(
            f"latents have shape {list(array.shape)}; must be [{n}, "
            f"{config.latent_size}], one for each label"
        )
    if not is_traced(array) and not np.isfinite(array).all():
        raise ValueError("latents are not all finite; replace NaN and infinity")
    return array.astype(np.float32)


def as_start(start: int | jax.Array, n: int) -> Any:
    """The index of the first of n images; a traced value is not checked.

    Raises:
        TypeError: start is not an integer.
        ValueError: an index is outside 0 to 2**32 - 1.
    """
    if is_traced(start):
        return start
    try:
        first = operator.index(start)
    except TypeError:
        raise TypeError(
            f"start={start!r} is not an int; use the index of the first image"
        ) from None
    if not 0 <= first <= UINT32_RANGE - n:
        raise ValueError(
            f"start={first} for {n} images is out of range; indices must be from 0 to "
            f"{UINT32_RANGE - 1}"
        )
    return first


def as_truncation(truncation: float | jax.Array) -> Any:
    """The factor of the latents, finite and at least 0; a traced value is not checked.

    Raises:
        ValueError: it is negative, NaN or infinite.
    """
    if is_traced(truncation):
        return jnp.asarray(truncation, jnp.float32)
    factor = float(truncation)
    if not 0 <= factor < math.inf:
        raise ValueError(
            f"truncation={factor} is out of range; use 1 for latents as in training, "
            "or less, down to 0, for more typical images"
        )
    return factor
