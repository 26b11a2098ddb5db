"""Convolutions by products of bfloat16, on numbers that bfloat16 holds exactly."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cxr_gan.models import bfloat16
from cxr_gan.models.convolution import LAYOUT

SHAPES = [  # n, side, channels in, channels out
    (1, 4, 1, 1),
    (2, 5, 3, 4),
    (3, 8, 4, 2),
    (4, 32, 2, 33),  # one image after the other
    (6, 64, 4, 3),
    (12, 16, 3, 64),  # two at a time
    (3, 16, 64, 3),  # two do not divide three
]


def plain(x, w):
    """The same convolution in float32, its gradients left to JAX."""
    pads = [(1, 1), (1, 1)]
    return lax.conv_general_dilated(x, w, (1, 1), pads, dimension_numbers=LAYOUT)


def whole_numbers(seed, shape):
    """-1, 0 and 1."""
    return jax.random.randint(jax.random.key(seed), shape, -1, 2).astype(jnp.float32)


def weighed(conv, x, w):
    """A sum of answers, each weighed by -1, 0 or 1."""
    y = conv(x, w)
    return (y * whole_numbers(2, y.shape)).sum()


@pytest.fixture(params=SHAPES, ids=str)
def case(request):
    n, side, c, d = request.param
    return whole_numbers(0, (n, side, side, c)), whole_numbers(1, (3, 3, c, d))


def test_answers_and_slopes_are_those_of_float32_where_nothing_is_rounded(case):
    def found(conv):
        slopes = jax.value_and_grad(functools.partial(weighed, conv), (0, 1))
        return jax.jit(lambda x, w: (conv(x, w), slopes(x, w)))(*case)

    chex.assert_trees_all_equal(found(bfloat16.convolve), found(plain))


@pytest.mark.parametrize("of", [0, 1])
def test_second_derivatives_are_those_of_float32_too(case, of):
    def found(conv):
        def penalty(x, w):
            return (jax.grad(functools.partial(weighed, conv), of)(x, w) ** 2).sum()

        return jax.jit(jax.grad(penalty, 1 - of))(*case)

    ours, theirs = found(bfloat16.convolve), found(plain)
    largest = float(jnp.abs(theirs).max())
    assert largest > 0
    np.testing.assert_allclose(ours, theirs, atol=2**-8 * largest)


def test_what_is_multiplied_is_rounded_and_what_is_summed_is_not():
    x = jnp.full((1, 1, 1, 3), 1 + 2**-9)  # between two numbers of bfloat16: the even
    w = jnp.zeros((3, 3, 3, 1)).at[1, 1, :, 0].set(jnp.array([1, 2**-9, 3 * 2**-9]))
    answer = bfloat16.convolve(x, w)
    assert answer.dtype == jnp.float32
    assert float(answer[0, 0, 0, 0]) == 1 + 4 * 2**-9


def test_all_is_multiplied_as_matrices_of_bfloat16_into_float32():
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 5))
    slopes = jax.grad(functools.partial(weighed, bfloat16.convolve), (0, 1))
    traced = str(jax.make_jaxpr(slopes)(x, w))
    assert "conv_general_dilated" not in traced
    products = [line for line in traced.splitlines() if "= dot_general" in line]
    assert len(products) == 3  # there, and back to image and weights
    assert all(":f32" in line.split("=")[0] for line in products)
    assert traced.count("preferred_element_type=float32") == 3


@pytest.mark.parametrize(("n", "loops"), [(1, 0), (2, 1), (16, 1)])
def test_as_many_images_are_multiplied_at_once_as_a_cache_holds(n, loops):
    x, w = jnp.ones((n, 32, 32, 32)), jnp.ones((3, 3, 32, 8))
    traced = str(jax.make_jaxpr(bfloat16.convolve)(x, w))
    assert traced.count("scan[") == loops
    assert (f"length={n}" in traced) == bool(loops)
