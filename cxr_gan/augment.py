"""Differentiable augmentation of all that D sees, safe for radiographs: no flips.

Each policy changes one image [s, s, 1] by two numbers from [0, 1). All numbers of an
image are drawn at once, from its own key: what happens to it does not depend on its
batch, its device or the number of devices, and that is one loop of random numbers to
compile, where four policies with draws of their own were thirteen.

Source: Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training".
"""

import jax
import jax.numpy as jnp
from jax import lax


def brightness(image: jax.Array, drawn: jax.Array, strength: float) -> jax.Array:
    """Adds one number from [-strength / 2, strength / 2] to the whole image."""
    return image + strength * (drawn[0] - 0.5)


def contrast(image: jax.Array, drawn: jax.Array, strength: float) -> jax.Array:
    """Scales the distance to the mean by a factor from [1 - strength, 1 + strength]."""
    factor = 1 + strength * (2 * drawn[0] - 1)
    return (image - image.mean()) * factor + image.mean()


def translation(image: jax.Array, drawn: jax.Array, strength: float) -> jax.Array:
    """Shifts by whole pixels, up to `strength` of a side; what comes in is mid-grey.

    Two products with 0/1 matrices: a gather is slow on TPU and CPU alike.
    """
    size = image.shape[0]
    reach = round(strength * size)
    place = jnp.arange(size)
    by = _below(2 * reach + 1, drawn)[:, None, None] - reach
    rows, columns = (place[:, None] == place[None, :] + by).astype(image.dtype)
    exact = lax.Precision.HIGHEST  # TPUs would round the pixels to bfloat16
    return jnp.einsum("ij,jkc,lk->ilc", rows, image, columns, precision=exact)


def cutout(image: jax.Array, drawn: jax.Array, strength: float) -> jax.Array:
    """Greys a square of `strength` of a side, centred anywhere; the edge may cut it."""
    size = image.shape[0]
    side = round(strength * size)
    first = _below(size + 1 - side % 2, drawn)[:, None] - side // 2
    place = jnp.arange(size)
    row, column = (first <= place) & (place < first + side)
    return image * ~(row[:, None] & column[None, :])[..., None]


def _below(count: int, drawn: jax.Array) -> jax.Array:
    """Numbers from [0, 1) -> as many whole ones from 0 to count - 1."""
    return jnp.floor(count * drawn).astype(jnp.int32)


def augment(
    images: jax.Array,
    keys: jax.Array,
    policies: tuple[tuple[str, float], ...],
    share: jax.Array | float = 1,
) -> jax.Array:
    """Applies the policies in turn: images [n, s, s, 1] in [-1, 1], keys [n] -> same.

    policies: names from POLICIES and their strengths; a strength of 0 leaves one out.
    share: the probability that an image is changed at all.
    """
    used = [(i, *policy) for i, policy in enumerate(policies) if policy[1]]
    if not used:
        return images

    def one(image: jax.Array, key: jax.Array) -> jax.Array:
        drawn, changed = jax.random.uniform(key, (1 + len(policies), 2)), image
        for i, name, strength in used:
            changed = POLICIES[name](changed, drawn[i], strength)
        return jnp.where(drawn[-1, 0] < share, changed, image)

    return jax.vmap(one)(images, keys)


POLICIES = {
    "brightness": brightness,
    "contrast": contrast,
    "translation": translation,
    "cutout": cutout,
}
