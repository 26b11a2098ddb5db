import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.training.schedules import Schedule, schedule_values

SCHEDULE = Schedule(  # of 100 steps
    batch_kimg=0.008,
    total_kimg=0.8,
    lr_decay_kimg=0.16,
    checkerboard_ramp_kimg=0.4,
)


@pytest.mark.parametrize(
    ("step", "lr_scale", "ramp"),
    [
        (0, 1, 0),
        (10, 1, 0.2),
        (25, 1, 0.5),
        (50, 1, 1),
        (80, 1, 1),
        (85, 0.75, 1),
        (99, 0.05, 1),
        (100, 0, 1),
        (120, 0, 1),
    ],
)
def test_schedule_values_are_piecewise_linear(step, lr_scale, ramp):
    values = schedule_values(SCHEDULE, jnp.asarray(step))
    np.testing.assert_allclose(values, (lr_scale, ramp), atol=1e-5)


def test_schedules_of_no_duration_are_one_throughout():
    constant = Schedule(0.008, 0.8, 0, 0)
    for step in (0, 99):
        assert schedule_values(constant, jnp.asarray(step)) == (1, 1)
