import dataclasses

import jax.numpy as jnp
import pytest

from cxr_gan.training.schedules import learning_rate_scale

TOTAL = {"batch_size": 8, "total_kimg": 0.8}  # 100 steps


@pytest.mark.parametrize(
    ("step", "scale"),
    [(0, 1), (50, 1), (80, 1), (85, 0.75), (99, 0.05), (100, 0), (120, 0)],
)
def test_learning_rates_fall_to_zero_over_the_last_fraction(config, step, scale):
    config = dataclasses.replace(config, **TOTAL, lr_decay_fraction=0.2)
    found = learning_rate_scale(config, jnp.asarray(step))
    assert found == pytest.approx(scale, abs=1e-5)


def test_learning_rates_without_decay_are_constant(config):
    constant = dataclasses.replace(config, **TOTAL, lr_decay_fraction=0.0)
    for step in (0, 99):
        assert learning_rate_scale(constant, jnp.asarray(step)) == 1
