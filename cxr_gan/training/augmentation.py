"""Differentiable augmentation of all images that D sees; safe for radiographs.

There are no horizontal flips: they move the heart to the other side. Each policy
changes one image [s, s, 1] by at most two numbers from [0, 1). All numbers of an image
are drawn at once, from its own key. So the result does not depend on the batch, the
device or the number of devices, and a single loop of random numbers is compiled.

Source: Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training".
"""

import jax
import jax.numpy as jnp
from jax import lax


def brightness(image: jax.Array, uniform: jax.Array, strength: float) -> jax.Array:
    """Adds one number from [-strength / 2, strength / 2] to the image."""
    return image + strength * (uniform[0] - 0.5)


def contrast(image: jax.Array, uniform: jax.Array, strength: float) -> jax.Array:
    """Scales the distance to the mean by a factor from [1 - strength, 1 + strength]."""
    factor = 1 + strength * (2 * uniform[0] - 1)
    return (image - image.mean()) * factor + image.mean()


def translation(image: jax.Array, uniform: jax.Array, strength: float) -> jax.Array:
    """Shifts by whole pixels, up to `strength` of a side; the margin is mid-grey.

    Computed as two products with 0/1 matrices, because a gather is slow on CPUs.
    """
    size = image.shape[0]
    reach = round(strength * size)
    place = jnp.arange(size)
    by = _below(2 * reach + 1, uniform)[:, None, None] - reach
    rows, columns = (place[:, None] == place[None, :] + by).astype(image.dtype)
    exact = lax.Precision.HIGHEST  # else TPUs round the pixels to bfloat16
    return jnp.einsum("ij,jkc,lk->ilc", rows, image, columns, precision=exact)


def cutout(image: jax.Array, uniform: jax.Array, strength: float) -> jax.Array:
    """Greys a square of `strength` of a side, centred anywhere; edges may clip it."""
    size = image.shape[0]
    side = round(strength * size)
    first = _below(size + 1 - side % 2, uniform)[:, None] - side // 2
    place = jnp.arange(size)
    row, column = (first <= place) & (place < first + side)
    return image * ~(row[:, None] & column[None, :])[..., None]


def _below(count: int, uniform: jax.Array) -> jax.Array:
    """Numbers in [0, 1) -> integers from 0 to count - 1."""
    return jnp.floor(count * uniform).astype(jnp.int32)


def augment(
    images: jax.Array,
    keys: jax.Array,
    policies: tuple[tuple[str, float], ...],
    probability: jax.Array | float = 1,
) -> jax.Array:
    """Applies the policies in turn: images [n, s, s, 1] in [-1, 1] -> same shape.

    Brightness and contrast can leave [-1, 1].

    Args:
        images: float32.
        keys: [n], one key per image.
        policies: names from POLICIES and strengths; a strength of 0 skips a policy.
        probability: of changing an image at all; float32 [] or a number.
    """
    used = [(i, *policy) for i, policy in enumerate(policies) if policy[1]]
    if not used:
        return images

    def one(image: jax.Array, key: jax.Array) -> jax.Array:
        uniform, changed = jax.random.uniform(key, (1 + len(policies), 2)), image
        for i, name, strength in used:
            changed = POLICIES[name](changed, uniform[i], strength)
        return jnp.where(uniform[-1, 0] < probability, changed, image)

    return jax.vmap(one)(images, keys)


POLICIES = {
    "brightness": brightness,
    "contrast": contrast,
    "translation": translation,
    "cutout": cutout,
}
