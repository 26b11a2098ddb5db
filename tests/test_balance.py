import chex
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan import balance

RULE = {"low": 0.1, "high": 0.6, "strength": 4.0}


@pytest.mark.parametrize("lead", [0.1, 0.3, 0.6])
def test_both_learn_at_full_speed_while_the_lead_is_in_its_range(lead):
    np.testing.assert_array_equal(balance.speeds(lead, **RULE), (1, 1))


@pytest.mark.parametrize(
    ("lead", "found"), [(-1, 0), (0.1, 0), (0.35, 0.5), (0.6, 1), (2, 1)]
)
def test_confidence_goes_from_0_to_1_as_the_lead_crosses_its_range(lead, found):
    np.testing.assert_allclose(balance.confidence(lead, 0.1, 0.6), found, atol=1e-6)


def test_d_slows_where_it_leads_too_far():
    d, g = balance.speeds(0.6 + 0.25, **RULE)
    np.testing.assert_allclose(d, np.exp(-1), rtol=1e-5)  # 4 e-foldings a unit
    assert g == 1


def test_g_slows_where_d_is_fooled():
    d, g = balance.speeds(0.1 - 0.5, **RULE)
    np.testing.assert_allclose(g, np.exp(-2), rtol=1e-5)
    assert d == 1


def test_speeds_jump_nowhere():
    lead = jnp.linspace(-2, 2, 4001)
    steepest = RULE["strength"] * (lead[1] - lead[0])
    for speed in balance.speeds(lead, **RULE):
        assert jnp.abs(jnp.diff(speed)).max() <= 1.01 * steepest
        assert speed.min() > 0


def test_speeds_stay_numbers_however_far_a_player_runs_away():
    chex.assert_tree_all_finite(balance.speeds(jnp.array([-1e6, 1e6]), **RULE))


def test_half_of_a_lead_is_forgotten_after_one_halflife():
    np.testing.assert_allclose(balance.remember(0.8, 0.2, kimg=3, halflife=3), 0.5)
    np.testing.assert_allclose(balance.remember(0.8, 0.2, kimg=6, halflife=3), 0.35)


def test_many_small_batches_are_remembered_like_one_large():
    lead = 0.8
    for _ in range(4):
        lead = balance.remember(lead, 0.2, kimg=0.5, halflife=3)
    np.testing.assert_allclose(lead, balance.remember(0.8, 0.2, kimg=2, halflife=3))
