"""What a training changes by plan: factors from 0 to 1, by the rounds played.

Sources: of labels that come in, Shahbazi et al. 2022, "Collapse by Conditioning:
Training Class-conditional GANs with Limited Data" (its transition, here from the first
round on). That D comes to see finest detail in full is ours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Schedule(NamedTuple):
    """Thousands of real images shown to D, till when or for how many."""

    batch_kimg: float  # in a round
    total_kimg: float
    decay_kimg: float  # the last, in which learning fades
    sharpen_kimg: float  # the first, in which D comes to see finest detail in full
    condition_kimg: float  # the first, in which labels come in


class Factors(NamedTuple):
    """Those of one round; float32 [] each."""

    rate: jax.Array  # on both learning rates: 1, and at the end in a line to 0
    sharpness: jax.Array  # see models.discriminator
    condition: jax.Array  # on what G knows of labels, and on the class losses


def factors(schedule: Schedule, step: jax.Array) -> Factors:
    """Those of the round after `step` rounds."""
    seen = schedule.batch_kimg * step
    return Factors(
        rate=_share(schedule.total_kimg - seen, schedule.decay_kimg),
        sharpness=_share(seen, schedule.sharpen_kimg),
        condition=_share(seen, schedule.condition_kimg),
    )


def _share(part: jax.Array, whole: float) -> jax.Array:
    """In [0, 1]; of nothing, 1."""
    return jnp.clip(part / whole, 0, 1) if whole else jnp.ones(())
