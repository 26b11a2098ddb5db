"""Training schedules: pure functions of the step, evaluated once a step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cxr_gan.config import Config


class ScheduleValues(NamedTuple):
    """Values for one step; float32 [] in [0, 1]."""

    lr_scale: jax.Array  # factor on both learning rates, which falls to 0 at the end
    checkerboard_ramp: jax.Array  # see models.discriminator.Discriminator


def schedule_values(config: Config, step: jax.Array) -> ScheduleValues:
    """The values for the step after `step` steps; step int32 []."""
    total = config.total_kimg
    seen = config.batch_size / 1000 * step
    # The networks that a run starts from were trained with the full gain.
    ramp = 0.0 if config.init else config.checkerboard_ramp
    return ScheduleValues(
        lr_scale=_fraction(total - seen, config.lr_decay_fraction * total),
        checkerboard_ramp=_fraction(seen, ramp * total),
    )


def _fraction(part: jax.Array, whole: float) -> jax.Array:
    """part / whole, clipped to [0, 1]; 1 where whole is 0."""
    return jnp.clip(part / whole, 0, 1) if whole else jnp.ones(())
