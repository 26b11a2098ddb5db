import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cxr_gan.models.cpu import winograd
from cxr_gan.models.cpu.convolution import LAYOUT


def plain(x, w):
    """Convolution in float64 by NumPy: a sum over the nine pixels of the kernel."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    side = x.shape[1]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pixels = [(i, j) for i in range(3) for j in range(3)]
    return sum(padded[:, i : i + side, j : j + side] @ w[i, j] for i, j in pixels)


def test_transforms_compute_a_convolution_along_one_axis():
    """Toom-Cook: 6 pixels and 3 weights give 4 outputs, in exact arithmetic."""
    of_input, of_kernel, of_output = winograd._transforms()
    pixels, weights = np.array([3.0, -1, 4, 1, -5, 9]), np.array([2.0, -7, 1])
    outputs = of_output @ ((of_kernel @ weights) * (of_input @ pixels))
    # 3*2 + 7 + 4 = 17; -2 - 28 + 1 = -29; 8 - 7 - 5 = -4; 2 + 35 + 9 = 46
    np.testing.assert_allclose(outputs, [17, -29, -4, 46], atol=1e-10)


@pytest.mark.parametrize("side", [4, 8, 32])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_convolve_equals_a_float64_convolution_up_to_rounding(n, side):
    key_x, key_w = jax.random.split(jax.random.key(side + n))
    x = jax.random.normal(key_x, (n, side, side, 64))
    w = jax.random.normal(key_w, (3, 3, 64, 48)) / 24  # outputs of std 1
    np.testing.assert_allclose(winograd.convolve(x, w), plain(x, w), atol=1.5e-5)


@pytest.mark.parametrize(("n", "side"), [(1, 4), (3, 8), (4, 16), (3, 16), (2, 32)])
def test_weight_gradient_equals_that_of_a_convolution(n, side):
    key_x, key_dy = jax.random.split(jax.random.key(side + n))
    x = jax.random.normal(key_x, (n, side, side, 5))
    dy = jax.random.normal(key_dy, (n, side, side, 7))

    def weighted_sum(w):
        pad = [(1, 1), (1, 1)]
        y = lax.conv_general_dilated(x, w, (1, 1), pad, dimension_numbers=LAYOUT)
        return (y * dy).sum()

    expected = jax.grad(weighted_sum)(jnp.zeros((3, 3, 5, 7)))
    largest = float(jnp.abs(expected).max())
    dw = winograd.weight_gradient(x, dy)
    np.testing.assert_allclose(dw, expected, atol=1e-5 * largest)
