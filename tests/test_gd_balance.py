import chex
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.training import gd_balance

RANGE = {"low": 0.1, "high": 0.6, "strength": 4.0}


@pytest.mark.parametrize("gap", [0.1, 0.3, 0.6])
def test_both_networks_learn_at_full_speed_within_the_range(gap):
    np.testing.assert_array_equal(gd_balance.update_scales(gap, **RANGE), (1, 1))


@pytest.mark.parametrize(
    ("gap", "expected"), [(-1, 0), (0.1, 0), (0.35, 0.5), (0.6, 1), (2, 1)]
)
def test_normalized_gap_rises_from_0_to_1_across_the_range(gap, expected):
    np.testing.assert_allclose(
        gd_balance.normalized_gap(gap, 0.1, 0.6), expected, atol=1e-6
    )


def test_discriminator_slows_above_the_range():
    d, g = gd_balance.update_scales(0.6 + 0.25, **RANGE)
    np.testing.assert_allclose(d, np.exp(-1), rtol=1e-5)  # strength 4, excess 0.25
    assert g == 1


def test_generator_slows_below_the_range():
    d, g = gd_balance.update_scales(0.1 - 0.5, **RANGE)
    np.testing.assert_allclose(g, np.exp(-2), rtol=1e-5)
    assert d == 1


def test_update_scales_are_continuous():
    gap = jnp.linspace(-2, 2, 4001)
    steepest = RANGE["strength"] * (gap[1] - gap[0])
    for scale in gd_balance.update_scales(gap, **RANGE):
        assert jnp.abs(jnp.diff(scale)).max() <= 1.01 * steepest
        assert scale.min() > 0


def test_update_scales_are_finite_for_extreme_gaps():
    chex.assert_tree_all_finite(
        gd_balance.update_scales(jnp.array([-1e6, 1e6]), **RANGE)
    )


def test_average_moves_half_way_in_one_halflife():
    np.testing.assert_allclose(gd_balance.ema(0.8, 0.2, kimg=3, halflife=3), 0.5)
    np.testing.assert_allclose(gd_balance.ema(0.8, 0.2, kimg=6, halflife=3), 0.35)


def test_many_small_batches_average_like_one_large_batch():
    gap = 0.8
    for _ in range(4):
        gap = gd_balance.ema(gap, 0.2, kimg=0.5, halflife=3)
    np.testing.assert_allclose(gap, gd_balance.ema(0.8, 0.2, kimg=2, halflife=3))
