import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.schedule import Schedule, factors

PLAN = Schedule(  # of 100 rounds
    batch_kimg=0.008,
    total_kimg=0.8,
    decay_kimg=0.16,
    sharpen_kimg=0.4,
    condition_kimg=0.08,
)


@pytest.mark.parametrize(
    ("step", "rate", "sharpness", "condition"),
    [
        (0, 1, 0, 0),
        (5, 1, 0.1, 0.5),
        (10, 1, 0.2, 1),
        (25, 1, 0.5, 1),
        (50, 1, 1, 1),
        (80, 1, 1, 1),
        (85, 0.75, 1, 1),
        (99, 0.05, 1, 1),
        (100, 0, 1, 1),
        (120, 0, 1, 1),
    ],
)
def test_factors_change_in_lines_over_their_share_of_all_images(
    step, rate, sharpness, condition
):
    found = factors(PLAN, jnp.asarray(step))
    np.testing.assert_allclose(found, (rate, sharpness, condition), atol=1e-5)


def test_what_has_no_share_is_in_full_all_along():
    for step in (0, 99):
        assert factors(Schedule(0.008, 0.8, 0, 0, 0), jnp.asarray(step)) == (1, 1, 1)
