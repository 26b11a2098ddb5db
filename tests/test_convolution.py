import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cxr_gan.models import convolution, winograd
from cxr_gan.models.convolution import LAYOUT, Conv1x1, Conv3x3, convolve

# n, side, channels in, channels out, kernel, padding; and what a CPU has
CASES = [
    (2, 5, 3, 4, 3, 1, ""),
    (3, 4, 5, 2, 3, 1, ""),
    (1, 6, 1, 2, 3, 0, ""),
    (2, 4, 2, 3, 1, 0, ""),
    (16, 16, 3, 5, 3, 1, ""),  # weights learn from eight images at a time
    (12, 16, 3, 17, 3, 1, ""),  # from four
    (8, 4, 32, 33, 3, 1, "avx2"),  # by tiles
    (2, 8, 33, 32, 3, 1, "avx2"),
    (4, 16, 32, 33, 3, 1, "avx2"),
    (4, 16, 64, 128, 3, 1, "avx512"),
    (12, 16, 64, 128, 3, 1, "avx512"),  # four at a time
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


@pytest.fixture(params=CASES, ids=str)
def case(request, monkeypatch):
    n, side, c_in, c_out, kernel, pad, vectors = request.param
    monkeypatch.setattr(winograd, "vectors", lambda: vectors)
    key_x, key_w = jax.random.split(jax.random.key(0))
    x = jax.random.normal(key_x, (n, side, side, c_in))
    return pad, x, jax.random.normal(key_w, (kernel, kernel, c_in, c_out))


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
        ((2, 8, 8, 32, 32), jnp.float32, {"avx2"}),
        ((2, 8, 8, 31, 32), jnp.float32, set()),  # too few channels to pay
        ((1, 8, 8, 32, 32), jnp.float32, set()),  # too few tiles
        ((2, 6, 6, 32, 32), jnp.float32, set()),  # no tiles of 4 x 4
        ((2, 8, 8, 32, 32), jnp.bfloat16, set()),
        ((4, 16, 16, 64, 128), jnp.float32, {"avx2", "avx512"}),
        ((4, 16, 16, 64, 64), jnp.float32, {"avx2"}),  # too few products
        ((2, 16, 16, 128, 128), jnp.float32, {"avx2"}),  # too few tiles
        ((2, 32, 32, 32, 128), jnp.float32, {"avx2"}),  # too few channels
    ],
)
@pytest.mark.parametrize("vectors", ["", "avx2", "avx512"])
def test_images_are_cut_into_tiles_where_that_pays(
    shape, dtype, tiled, vectors, monkeypatch
):
    monkeypatch.setattr(winograd, "vectors", lambda: vectors)
    x, w = jnp.ones(shape[:4], dtype), jnp.ones((3, 3, *shape[3:]), dtype)
    asked = str(jax.make_jaxpr(lambda x, w: convolve(x, w, 1))(x, w))
    assert ("conv_general_dilated" not in asked) == (vectors in tiled)


@pytest.mark.parametrize(
    ("shape", "dtype", "convolved"),
    [
        ((2, 8, 8, 16, 4), jnp.float32, (20, 4)),
        ((2, 8, 8, 4, 16), jnp.float32, (4, 20)),
        ((2, 8, 8, 16, 16), jnp.float32, (20, 16)),
        ((2, 8, 8, 17, 4), jnp.float32, (17, 4)),
        ((2, 8, 8, 16, 4), jnp.bfloat16, (16, 4)),
    ],
)
def test_slender_images_are_widened_for_xla_s_library(shape, dtype, convolved):
    x, w = jnp.ones(shape[:4], dtype), jnp.ones((3, 3, *shape[3:]), dtype)
    lowered = jax.jit(lambda x, w: convolve(x, w, 1)).lower(x, w)
    (asked,) = re.findall(r"convolution\(.*tensor<3x3x(\d+)x(\d+)x", lowered.as_text())
    assert tuple(map(int, asked)) == convolved


@pytest.mark.parametrize(("side", "turned"), [(4, False), (8, True)])
def test_kernels_are_turned_round_for_many_pixels_alone(side, turned, monkeypatch):
    monkeypatch.setattr(winograd, "vectors", lambda: "avx512")
    x, w = jnp.ones((16, side, side, 64)), jnp.ones((3, 3, 64, 128))
    asked = jax.make_jaxpr(jax.grad(lambda x: convolve(x, w, 1).sum()))(x)
    assert ("rev" in {e.primitive.name for e in asked.eqns}) == turned


def test_weights_of_slender_images_learn_from_eight_at_a_time():
    x, w = jnp.ones((16, 16, 16, 4)), jnp.ones((3, 3, 4, 16))
    asked = jax.make_jaxpr(jax.grad(lambda w: convolve(x, w, 1).sum()))(w)
    (loop,) = (e for e in asked.eqns if e.primitive.name == "scan")
    assert loop.params["length"] == 2


def test_conv3x3_is_flax_s_own_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    ours, theirs = Conv3x3(4), nn.Conv(4, (3, 3))
    params = ours.init(jax.random.key(1), x)["params"]
    params["conv"]["bias"] = jnp.arange(4.0)
    expected = theirs.apply({"params": params["conv"]}, x)
    np.testing.assert_allclose(ours.apply({"params": params}, x), expected, atol=1e-5)


def in_bfloat16(monkeypatch, fast):
    """What a convolution of bfloat16 says, and its program."""
    monkeypatch.setattr(convolution, "multiplies_bfloat16", lambda: fast)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    conv = Conv3x3(4, jnp.bfloat16)
    params = conv.init(jax.random.key(1), x)

    def answer(params, x):
        return conv.apply(params, x)

    return answer(params, x), str(jax.make_jaxpr(answer)(params, x))


def test_cpus_multiply_bfloat16_alike_with_and_without_instructions(monkeypatch):
    fast, program = in_bfloat16(monkeypatch, True)
    assert "conv_general_dilated" not in program
    slow, program = in_bfloat16(monkeypatch, False)
    assert "conv_general_dilated" in program
    assert fast.dtype == slow.dtype == jnp.float32
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    params = Conv3x3(4).init(jax.random.key(1), x)
    error = np.std(Conv3x3(4).apply(params, x) - fast) / np.std(fast)
    assert 2**-11 < error < 2**-8  # as far off as numbers of 8 bits are


def test_elsewhere_convolutions_of_bfloat16_are_xla_s_own(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    answer, program = in_bfloat16(monkeypatch, True)
    assert answer.dtype == jnp.bfloat16
    assert re.search(r"bf16\[2,8,8,4\] = conv_general_dilated", program)


def test_conv1x1_is_a_dense_layer_of_each_pixel():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    ours, theirs = Conv1x1(6), nn.Dense(6, use_bias=False)
    params = ours.init(jax.random.key(1), x)
    chex.assert_trees_all_equal(params, theirs.init(jax.random.key(1), x))
    expected = theirs.apply(params, x)
    np.testing.assert_allclose(ours.apply(params, x), expected, atol=1e-5)
