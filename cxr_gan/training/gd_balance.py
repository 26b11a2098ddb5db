"""Balance controller: slows the generator or the discriminator if it is ahead.

The controlled quantity is the score gap: D's mean score of real images minus that of
generated images, divided by the distance of D's two targets, as an exponential moving
average. 0 means that D cannot separate them, 1 that D separates them fully. While the
gap lies between `low` and `high`, both networks learn at full speed. Above `high` the
update of D, below `low` that of G, is multiplied by exp(-strength * distance from the
range). The rule is continuous in D's outputs, so another number of devices changes
results only by rounding.

Sources: the proportional control of Berthelot et al. 2017, "BEGAN", section 3.4,
applied to a measure of D's outputs as in Karras et al. 2020, "Training Generative
Adversarial Networks with Limited Data", section 3.1. It scales the update after Adam,
because Adam cancels a scale of the loss.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class UpdateScales(NamedTuple):
    """Factors in (0, 1] on the updates of both networks; float32 []."""

    discriminator: jax.Array
    generator: jax.Array


def ema(average: jax.Array, new: jax.Array, kimg: float, halflife: float) -> jax.Array:
    """The moving average after `kimg` more images with the mean `new`."""
    keep = 0.5 ** (kimg / halflife)
    return keep * average + (1 - keep) * new


def normalized_gap(gap: jax.Array, low: float, high: float) -> jax.Array:
    """Position of the gap between low and high, clipped to [0, 1]; float32 []."""
    return jnp.clip((gap - low) / (high - low), 0, 1)


def update_scales(
    gap: jax.Array, low: float, high: float, strength: float
) -> UpdateScales:
    """Both 1 while low <= gap <= high; D's falls above high, G's below low."""
    return UpdateScales(
        discriminator=jnp.exp(-strength * jax.nn.relu(gap - high)),
        generator=jnp.exp(-strength * jax.nn.relu(low - gap)),
    )
