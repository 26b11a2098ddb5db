"""Training schedules: pure functions of the step, evaluated once a step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Schedule(NamedTuple):
    """Durations in kimg (thousand real images shown to D)."""

    batch_kimg: float  # per step
    total_kimg: float
    lr_decay_kimg: float  # at the end, over which both learning rates fall to 0
    checkerboard_ramp_kimg: float  # at the start, over which the gain rises


class ScheduleValues(NamedTuple):
    """Values for one step; float32 [] in [0, 1]."""

    lr_scale: jax.Array  # factor on both learning rates
    checkerboard_ramp: jax.Array  # see models.discriminator.Discriminator


def schedule_values(schedule: Schedule, step: jax.Array) -> ScheduleValues:
    """The values for the step after `step` steps; step int32 []."""
    seen = schedule.batch_kimg * step
    return ScheduleValues(
        lr_scale=_fraction(schedule.total_kimg - seen, schedule.lr_decay_kimg),
        checkerboard_ramp=_fraction(seen, schedule.checkerboard_ramp_kimg),
    )


def _fraction(part: jax.Array, whole: float) -> jax.Array:
    """part / whole, clipped to [0, 1]; 1 where whole is 0."""
    return jnp.clip(part / whole, 0, 1) if whole else jnp.ones(())
