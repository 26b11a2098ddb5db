"""What is asked of a generator: labels, a seed, an index; checked before a compile."""

import difflib
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WORDS = 2**32  # seeds and indices are below: keys are made of 32-bit words
Labels = Sequence[int] | Sequence[str] | np.ndarray | jax.Array
Rng = int | np.ndarray | jax.Array


def traced(tree: Any) -> bool:
    """Whether any leaf is a placeholder of jit, vmap or grad."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def as_labels(labels: Labels, class_names: tuple[str, ...]) -> Any:
    """Labels or names -> int32 [n]; values are checked where there are any."""
    if isinstance(labels, str):
        raise TypeError(f"labels is one str; for n images of it use [{labels!r}] * n")
    array = jnp.asarray(labels) if traced(labels) else np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(
            f"labels has shape {list(array.shape)}; must be [n], a label for each image"
        )
    known = ", ".join(f"{i} = {name!r}" for i, name in enumerate(class_names))
    if not traced(array):
        listed = array.tolist()
        if listed and all(isinstance(label, str) for label in listed):
            array = np.array([label_of(name, class_names) for name in listed])
        wrong = [
            y for y in listed if isinstance(y, int) and not 0 <= y < len(class_names)
        ]
        if wrong:
            raise ValueError(f"no class has label {wrong[0]}; labels are {known}")
    if len(array) and not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"labels are {array.dtype}; use integers, or names outside of jit: {known}"
        )
    return array.astype(np.int32)


def label_of(name: str, class_names: tuple[str, ...]) -> int:
    """The label of a class; its name must be spelt as the data spells it.

    Raises:
        ValueError: no class has that name; says which one may be meant.
    """
    if name in class_names:
        return class_names.index(name)
    folded = {known.casefold(): known for known in class_names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    raise ValueError(
        f"no class is called {name!r}; {hint}classes are {', '.join(class_names)}"
    )


def as_key(rng: Rng) -> jax.Array:
    """A seed, or a key of any kind, -> a typed threefry key.

    JAX's other generators draw other numbers under vmap, so of their keys only two
    words are taken; a key made of a small int begins with the same two in each kind.
    """
    shape, dtype = np.shape(rng), getattr(rng, "dtype", None)
    if dtype is None and isinstance(rng, int) and not isinstance(rng, bool):
        dtype = np.dtype(int)
    if _is(dtype, jax.dtypes.prng_key) and not shape:
        words = jax.random.key_data(rng)
    elif dtype == np.uint32 and shape in {(2,), (4,)}:
        words = jnp.asarray(rng)
    elif _is(dtype, jnp.integer) and not shape:
        if not traced(rng) and not 0 <= int(rng) < WORDS:
            raise ValueError(f"rng={rng} is no seed; use an int from 0 to {WORDS - 1}")
        # JAX would take a tenth of the time of an image for what NumPy does at once.
        array = jnp if traced(rng) else np
        words = array.asarray([0, rng], np.uint32)
    else:
        given = type(rng).__name__ if dtype is None else f"{dtype} {list(shape)}"
        raise TypeError(
            f"rng is {given}; use one int, jax.random.key(seed) or "
            "jax.random.PRNGKey(seed), and jax.vmap for many of them"
        )
    two = words if words.shape == (2,) else words[:2]
    return jax.random.wrap_key_data(two, impl="threefry2x32")


def _is(dtype: Any, kind: Any) -> bool:
    return dtype is not None and jnp.issubdtype(dtype, kind)


def as_start(start: int | jax.Array, n: int) -> Any:
    """The index of the first of n images, checked where there is a value."""
    if traced(start):
        return start
    try:
        first = operator.index(start)
    except TypeError:
        raise TypeError(f"start={start!r} is no int; give a first index") from None
    if not 0 <= first <= WORDS - n:
        raise ValueError(
            f"start={first} for {n} images: indices must be from 0 to {WORDS - 1}"
        )
    return first


def as_truncation(truncation: float | jax.Array) -> Any:
    """The factor of the noise, checked where there is a value."""
    if traced(truncation):
        return truncation
    factor = float(truncation)
    if not 0 <= factor < math.inf:
        raise ValueError(
            f"truncation={factor} is out of range; use 1 to draw as trained, less down "
            "to 0 for more typical images"
        )
    return factor
