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

import jax
import jax.numpy as jnp

from cxr_gan.config import BalanceConfig


def ema(average: jax.Array, new: jax.Array, kimg: float, halflife: float) -> jax.Array:
    """The moving average after `kimg` more images with the mean `new`."""
    keep = 0.5 ** (kimg / halflife)
    return keep * average + (1 - keep) * new


def normalized_gap(gap: jax.Array, config: BalanceConfig) -> jax.Array:
    """Position of the gap between low and high, clipped to [0, 1]; float32 []."""
    return jnp.clip((gap - config.low) / (config.high - config.low), 0, 1)


def update_scales(gap: jax.Array, config: BalanceConfig) -> tuple[jax.Array, jax.Array]:
    """Factors in (0, 1] on the updates of D and of G; float32 [].

    Both are 1 while low <= gap <= high, and where the controller is switched off. D's
    falls above high, G's below low.
    """
    if not config.enabled:
        return jnp.ones(()), jnp.ones(())
    return (
        jnp.exp(-config.strength * jax.nn.relu(gap - config.high)),
        jnp.exp(-config.strength * jax.nn.relu(config.low - gap)),
    )
