"""Keeps either player from running away, by slowing the one that does.

The measure is D's lead: its mean realness of real images minus that of generated ones,
over the distance of D's two targets, remembered with a half-life. A lead of 0 means
that D is fooled, a lead of 1 that G is beaten. Between `low` and `high` both learn at
full speed; beyond, the winner's update is multiplied by exp(-strength * excess). The
rule is continuous in D's outputs: rounding moves it by rounding, so any number of
devices plays the same game.

Sources: the proportional control of Berthelot et al. 2017, "BEGAN", section 3.4,
steered by a measure of D's outputs as in Karras et al. 2020, "Training Generative
Adversarial Networks with Limited Data", section 3.1. That it scales the update after
Adam is ours: Adam would undo a scale of the loss.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Speeds(NamedTuple):
    """Factors in (0, 1] on the two players' updates; float32 []."""

    discriminator: jax.Array
    generator: jax.Array


def remember(
    lead: jax.Array, new: jax.Array, kimg: float, halflife: float
) -> jax.Array:
    """The remembered lead after `kimg` more images with a mean lead of `new`."""
    keep = 0.5 ** (kimg / halflife)
    return keep * lead + (1 - keep) * new


def confidence(lead: jax.Array, low: float, high: float) -> jax.Array:
    """Where the lead is between low, 0, and high, 1; beyond as there; float32 []."""
    return jnp.clip((lead - low) / (high - low), 0, 1)


def speeds(lead: jax.Array, low: float, high: float, strength: float) -> Speeds:
    """Both 1 while low <= lead <= high; D slows above, G below."""
    return Speeds(
        discriminator=jnp.exp(-strength * jax.nn.relu(lead - high)),
        generator=jnp.exp(-strength * jax.nn.relu(low - lead)),
    )
