import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cxr_gan.models.conv import Conv1x1, Conv3x3
from cxr_gan.models.cpu import convolution, winograd
from cxr_gan.models.cpu.convolution import LAYOUT, convolve

# n, side, input channels, output channels, kernel, padding, and the CPU's SIMD level
CASES = [
    (2, 5, 3, 4, 3, 1, ""),
    (3, 4, 5, 2, 3, 1, ""),
    (1, 6, 1, 2, 3, 0, ""),
    (2, 4, 2, 3, 1, 0, ""),
    (16, 16, 3, 5, 3, 1, ""),  # weight gradient: chunks of eight
    (12, 16, 3, 17, 3, 1, ""),  # weight gradient: chunks of four
    (8, 4, 32, 33, 3, 1, "avx2"),  # Winograd tiles
    (2, 8, 33, 32, 3, 1, "avx2"),
    (4, 16, 32, 33, 3, 1, "avx2"),
    (4, 16, 64, 128, 3, 1, "avx512"),
    (12, 16, 64, 128, 3, 1, "avx512"),  # chunks of four
]


def plain(x, w, pad):
    """The same convolution with the gradients of JAX."""
    padding = [(pad, pad), (pad, pad)]
    return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=LAYOUT)


def loss(conv, pad, x, w):
    return jnp.sin(conv(x, w, pad)).sum()


def penalty(conv, pad, x, w):
    """Like R1: the squared gradient in x; its gradient in w is a second derivative."""
    return (jax.grad(loss, 2)(conv, pad, x, w) ** 2).sum()


@pytest.fixture(params=CASES, ids=str)
def case(request, monkeypatch):
    n, side, c_in, c_out, kernel, pad, simd_level = request.param
    monkeypatch.setattr(winograd, "simd_level", lambda: simd_level)
    key_x, key_w = jax.random.split(jax.random.key(0))
    x = jax.random.normal(key_x, (n, side, side, c_in))
    return pad, x, jax.random.normal(key_w, (kernel, kernel, c_in, c_out))


@pytest.mark.parametrize("function", [loss, penalty])
def test_convolve_has_the_value_and_gradients_of_a_plain_convolution(function, case):
    pad, x, w = case

    def value_and_gradients(conv):
        of_x_and_w = functools.partial(function, conv, pad)
        return jax.jit(jax.value_and_grad(of_x_and_w, (0, 1)))(x, w)

    actual, expected = value_and_gradients(convolve), value_and_gradients(plain)
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected[1]))
    tolerance = 1e-4 * max(largest, 1)
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize(
    ("shape", "dtype", "tiled_on"),
    [
        ((2, 8, 8, 32, 32), jnp.float32, {"avx2"}),
        ((2, 8, 8, 31, 32), jnp.float32, set()),  # too few channels
        ((1, 8, 8, 32, 32), jnp.float32, set()),  # too few tiles
        ((2, 6, 6, 32, 32), jnp.float32, set()),  # no tiles of 4 x 4
        ((2, 8, 8, 32, 32), jnp.bfloat16, set()),
        ((4, 16, 16, 64, 128), jnp.float32, {"avx2", "avx512"}),
        ((4, 16, 16, 64, 64), jnp.float32, {"avx2"}),  # too few products
        ((2, 16, 16, 128, 128), jnp.float32, {"avx2"}),  # too few tiles
        ((2, 32, 32, 32, 128), jnp.float32, {"avx2"}),  # too few channels
    ],
)
@pytest.mark.parametrize("simd_level", ["", "avx2", "avx512"])
def test_winograd_is_used_only_above_its_thresholds(
    shape, dtype, tiled_on, simd_level, monkeypatch
):
    monkeypatch.setattr(winograd, "simd_level", lambda: simd_level)
    x, w = jnp.ones(shape[:4], dtype), jnp.ones((3, 3, *shape[3:]), dtype)
    jaxpr = str(jax.make_jaxpr(lambda x, w: convolve(x, w, 1))(x, w))
    assert ("conv_general_dilated" not in jaxpr) == (simd_level in tiled_on)


@pytest.mark.parametrize(
    ("shape", "dtype", "padded"),
    [
        ((2, 8, 8, 16, 4), jnp.float32, (20, 4)),
        ((2, 8, 8, 4, 16), jnp.float32, (4, 20)),
        ((2, 8, 8, 16, 16), jnp.float32, (20, 16)),
        ((2, 8, 8, 17, 4), jnp.float32, (17, 4)),
        ((2, 8, 8, 16, 4), jnp.bfloat16, (16, 4)),
    ],
)
def test_few_channels_are_padded_for_the_convolution_library(shape, dtype, padded):
    x, w = jnp.ones(shape[:4], dtype), jnp.ones((3, 3, *shape[3:]), dtype)
    lowered = jax.jit(lambda x, w: convolve(x, w, 1)).lower(x, w)
    pattern = r"convolution\(.*tensor<3x3x(\d+)x(\d+)x"
    (channels,) = re.findall(pattern, lowered.as_text())
    assert tuple(map(int, channels)) == padded


@pytest.mark.parametrize(("side", "flipped"), [(4, False), (8, True)])
def test_input_gradient_of_small_images_does_not_flip_the_kernel(
    side, flipped, monkeypatch
):
    monkeypatch.setattr(winograd, "simd_level", lambda: "avx512")
    x, w = jnp.ones((16, side, side, 64)), jnp.ones((3, 3, 64, 128))
    jaxpr = jax.make_jaxpr(jax.grad(lambda x: convolve(x, w, 1).sum()))(x)
    assert ("rev" in {e.primitive.name for e in jaxpr.eqns}) == flipped


def test_weight_gradient_of_few_channels_sums_chunks_of_eight():
    x, w = jnp.ones((16, 16, 16, 4)), jnp.ones((3, 3, 4, 16))
    jaxpr = jax.make_jaxpr(jax.grad(lambda w: convolve(x, w, 1).sum()))(w)
    (loop,) = (e for e in jaxpr.eqns if e.primitive.name == "scan")
    assert loop.params["length"] == 2


def test_conv3x3_equals_the_convolution_of_flax():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    conv = Conv3x3(4)
    params = conv.init(jax.random.key(1), x)["params"]
    params["conv"]["bias"] = jnp.arange(4.0)
    expected = nn.Conv(4, (3, 3)).apply({"params": params["conv"]}, x)
    np.testing.assert_allclose(conv.apply({"params": params}, x), expected, atol=1e-5)


def apply_in_bfloat16(monkeypatch, fast):
    """The output of a bfloat16 convolution, and its jaxpr."""
    monkeypatch.setattr(convolution, "has_fast_bfloat16", lambda: fast)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    conv = Conv3x3(4, jnp.bfloat16)
    params = conv.init(jax.random.key(1), x)

    def apply(params, x):
        return conv.apply(params, x)

    return apply(params, x), str(jax.make_jaxpr(apply)(params, x))


def test_cpus_compute_bfloat16_equally_with_and_without_amx(monkeypatch):
    fast, jaxpr = apply_in_bfloat16(monkeypatch, True)
    assert "conv_general_dilated" not in jaxpr
    slow, jaxpr = apply_in_bfloat16(monkeypatch, False)
    assert "conv_general_dilated" in jaxpr
    assert fast.dtype == slow.dtype == jnp.float32
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    params = Conv3x3(4).init(jax.random.key(1), x)
    error = np.std(Conv3x3(4).apply(params, x) - fast) / np.std(fast)
    assert 2**-11 < error < 2**-8  # the rounding error of an 8-bit significand


def test_tpus_use_the_bfloat16_convolution_of_xla(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    y, jaxpr = apply_in_bfloat16(monkeypatch, True)
    assert y.dtype == jnp.bfloat16
    assert re.search(r"bf16\[2,8,8,4\] = conv_general_dilated", jaxpr)


def test_conv1x1_is_a_dense_layer_on_each_pixel():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    conv, dense = Conv1x1(6), nn.Dense(6, use_bias=False)
    params = conv.init(jax.random.key(1), x)
    chex.assert_trees_all_equal(params, dense.init(jax.random.key(1), x))
    expected = dense.apply(params, x)
    np.testing.assert_allclose(conv.apply(params, x), expected, atol=1e-5)
