"""The schedule of the learning rates: a pure function of the step."""

import jax
import jax.numpy as jnp

from cxr_gan.config import Config


def learning_rate_scale(config: Config, step: jax.Array) -> jax.Array:
    """Factor on both learning rates after `step` steps; step int32 [] -> float32 [].

    1, then falls linearly to 0 over the last lr_decay_fraction of total_kimg.
    """
    left = config.total_kimg - config.batch_size / 1000 * step
    decay = config.lr_decay_fraction * config.total_kimg
    return jnp.clip(left / decay, 0, 1) if decay else jnp.ones(())
