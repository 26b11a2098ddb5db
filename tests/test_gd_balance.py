import numpy as np
import pytest

from cxr_gan.config import BalanceConfig
from cxr_gan.training import gd_balance

CONFIG = BalanceConfig(True, low=0.1, high=0.6, strength=4.0, halflife_kimg=3.0)


@pytest.mark.parametrize(
    ("gap", "d", "g"),
    [
        *((gap, 1, 1) for gap in (0.1, 0.3, 0.6)),
        (0.6 + 0.25, np.exp(-1), 1),  # strength 4 times the excess of 0.25
        (0.1 - 0.5, 1, np.exp(-2)),
    ],
)
def test_network_that_is_ahead_slows_outside_of_the_range(gap, d, g):
    np.testing.assert_allclose(gd_balance.update_scales(gap, CONFIG), (d, g), 1e-5)


@pytest.mark.parametrize(
    ("gap", "expected"), [(-1, 0), (0.1, 0), (0.35, 0.5), (0.6, 1), (2, 1)]
)
def test_normalized_gap_rises_from_0_to_1_across_the_range(gap, expected):
    np.testing.assert_allclose(
        gd_balance.normalized_gap(gap, CONFIG), expected, atol=1e-6
    )


def test_average_moves_half_way_in_one_halflife():
    np.testing.assert_allclose(gd_balance.ema(0.8, 0.2, kimg=3, halflife=3), 0.5)
    twice = gd_balance.ema(0.5, 0.2, kimg=3, halflife=3)
    np.testing.assert_allclose(gd_balance.ema(0.8, 0.2, kimg=6, halflife=3), twice)
