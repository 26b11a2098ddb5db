import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cxr_gan.models import convolution
from cxr_gan.models.convolution import LAYOUT, Conv3x3, convolve

# n, side, channels in, channels out, kernel, padding
SHAPES = [
    (2, 5, 3, 4, 3, 1),
    (3, 4, 5, 2, 3, 1),
    (1, 6, 1, 2, 3, 0),
    (2, 4, 2, 3, 1, 0),
    (8, 4, 32, 33, 3, 1),  # from here on by tiles, where that pays
    (2, 8, 33, 32, 3, 1),
    (4, 16, 32, 33, 3, 1),
]


def plain(x, w, pad):
    """The same convolution, its gradients left to JAX."""
    padding = [(pad, pad), (pad, pad)]
    return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=LAYOUT)


def loss(conv, pad, x, w):
    return jnp.sin(conv(x, w, pad)).sum()


def penalty(conv, pad, x, w):
    """Like R1: the squared slope in x, whose own slope in w is a second derivative."""
    return (jax.grad(loss, 2)(conv, pad, x, w) ** 2).sum()


@pytest.fixture(params=SHAPES, ids=str)
def case(request):
    n, side, c_in, c_out, kernel, pad = request.param
    key_x, key_w = jax.random.split(jax.random.key(0))
    x = jax.random.normal(key_x, (n, side, side, c_in))
    return pad, x, jax.random.normal(key_w, (kernel, kernel, c_in, c_out))


@pytest.fixture(params=[False, True], ids=["wide", "narrow"], autouse=True)
def narrow(request, monkeypatch):
    """Both kinds of CPU, whichever this one is."""
    monkeypatch.setattr(convolution, "narrow", lambda: request.param)
    return request.param


@pytest.mark.parametrize("function", [loss, penalty])
def test_convolve_has_the_value_and_slopes_of_a_plain_convolution(function, case):
    pad, x, w = case

    def slopes(conv):
        of_weights_and_image = functools.partial(function, conv, pad)
        return jax.jit(jax.value_and_grad(of_weights_and_image, (0, 1)))(x, w)

    ours, theirs = slopes(convolve), slopes(plain)
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(theirs[1]))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-4 * max(largest, 1))


@pytest.mark.parametrize(
    ("shape", "dtype", "tiled"),
    [
        ((2, 8, 8, 32, 32), jnp.float32, True),
        ((2, 8, 8, 31, 32), jnp.float32, False),  # too few channels to pay
        ((1, 8, 8, 32, 32), jnp.float32, False),  # too few tiles
        ((2, 6, 6, 32, 32), jnp.float32, False),  # no tiles of 4 x 4
        ((2, 8, 8, 32, 32), jnp.bfloat16, False),
    ],
)
def test_images_are_cut_into_tiles_where_that_pays(shape, dtype, tiled, narrow):
    x, w = jnp.ones(shape[:4], dtype), jnp.ones((3, 3, *shape[3:]), dtype)
    asked = str(jax.make_jaxpr(lambda x, w: convolve(x, w, 1))(x, w))
    assert ("conv_general_dilated" not in asked) == (tiled and narrow)


def test_conv3x3_is_flax_s_own_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    ours, theirs = Conv3x3(4), nn.Conv(4, (3, 3))
    params = ours.init(jax.random.key(1), x)["params"]
    params["conv"]["bias"] = jnp.arange(4.0)
    expected = theirs.apply({"params": params["conv"]}, x)
    np.testing.assert_allclose(ours.apply({"params": params}, x), expected, atol=1e-5)
