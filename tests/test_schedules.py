import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.training.schedules import schedule_values

TOTAL = {"batch_size": 8, "total_kimg": 0.8}  # 100 steps


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
def test_schedule_values_are_piecewise_linear(config, step, lr_scale, ramp):
    config = dataclasses.replace(
        config, **TOTAL, lr_decay_fraction=0.2, checkerboard_ramp=0.5
    )
    values = schedule_values(config, jnp.asarray(step))
    np.testing.assert_allclose(values, (lr_scale, ramp), atol=1e-5)


def test_schedules_of_no_duration_are_one_throughout(config):
    constant = dataclasses.replace(
        config, **TOTAL, lr_decay_fraction=0.0, checkerboard_ramp=0.0
    )
    for step in (0, 99):
        assert schedule_values(constant, jnp.asarray(step)) == (1, 1)
