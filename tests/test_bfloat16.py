"""bfloat16 convolutions of values that bfloat16 represents exactly."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cxr_gan.models.cpu import bfloat16
from cxr_gan.models.cpu.convolution import LAYOUT

SHAPES = [  # n, side, input channels, output channels
    (1, 4, 1, 1),
    (2, 5, 3, 4),
    (3, 8, 4, 2),
    (4, 32, 2, 33),  # chunks of one image
    (6, 64, 4, 3),
    (12, 16, 3, 64),  # chunks of two
    (3, 16, 64, 3),  # one chunk, since two do not divide three
]


def plain(x, w):
    """The same convolution in float32 with the gradients of JAX."""
    pads = [(1, 1), (1, 1)]
    return lax.conv_general_dilated(x, w, (1, 1), pads, dimension_numbers=LAYOUT)


def random_integers(seed, shape):
    """float32 array of -1, 0 and 1."""
    return jax.random.randint(jax.random.key(seed), shape, -1, 2).astype(jnp.float32)


def weighted_sum(conv, x, w):
    """Sum of the outputs with weights -1, 0 and 1."""
    y = conv(x, w)
    return (y * random_integers(2, y.shape)).sum()


@pytest.fixture(params=SHAPES, ids=str)
def case(request):
    n, side, c, d = request.param
    return random_integers(0, (n, side, side, c)), random_integers(1, (3, 3, c, d))


def test_outputs_and_gradients_equal_float32_where_nothing_is_rounded(case):
    def outputs_and_gradients(conv):
        gradients = jax.value_and_grad(functools.partial(weighted_sum, conv), (0, 1))
        return jax.jit(lambda x, w: (conv(x, w), gradients(x, w)))(*case)

    chex.assert_trees_all_equal(
        outputs_and_gradients(bfloat16.convolve), outputs_and_gradients(plain)
    )


@pytest.mark.parametrize("argument", [0, 1])
def test_second_derivatives_are_close_to_float32(case, argument):
    def second_derivative(conv):
        gradient = jax.grad(functools.partial(weighted_sum, conv), argument)

        def penalty(x, w):
            return (gradient(x, w) ** 2).sum()

        return jax.jit(jax.grad(penalty, 1 - argument))(*case)

    actual, expected = second_derivative(bfloat16.convolve), second_derivative(plain)
    largest = float(jnp.abs(expected).max())
    assert largest > 0
    np.testing.assert_allclose(actual, expected, atol=2**-8 * largest)


def test_operands_are_rounded_and_sums_are_not():
    x = jnp.full((1, 1, 1, 3), 1 + 2**-9)  # rounds to 1
    w = jnp.zeros((3, 3, 3, 1)).at[1, 1, :, 0].set(jnp.array([1, 2**-9, 3 * 2**-9]))
    y = bfloat16.convolve(x, w)
    assert y.dtype == jnp.float32
    assert float(y[0, 0, 0, 0]) == 1 + 4 * 2**-9
