import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cxr_gan.models import cpu
from cxr_gan.models.conv import Conv1x1, Conv3x3
from cxr_gan.models.cpu import convolution, layout, winograd
from cxr_gan.models.cpu.convolution import LAYOUT, convolve

# n, side, input channels, output channels, kernel, padding, and the CPU's SIMD level
CASES = [
    (2, 5, 3, 4, 3, 1, ""),
    (3, 4, 5, 2, 3, 1, ""),
    (1, 6, 1, 2, 3, 0, ""),
    (2, 4, 2, 3, 1, 0, ""),
    (16, 16, 3, 5, 3, 1, ""),  # weight gradient of few channels: chunks of eight
    (6, 16, 5, 3, 3, 1, ""),  # one chunk, since eight do not divide six
    (8, 16, 20, 5, 3, 1, ""),  # many channels: chunks of four
    (8, 4, 32, 33, 3, 1, "avx2"),  # Winograd tiles
    (2, 8, 33, 32, 3, 1, "avx2"),
    (1, 6, 32, 32, 3, 1, "avx2"),  # no tiles of 4 x 4
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


def test_conv3x3_equals_the_convolution_of_flax():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    conv = Conv3x3(4)
    params = conv.init(jax.random.key(1), x)["params"]
    params["conv"]["bias"] = jnp.arange(4.0)
    expected = nn.Conv(4, (3, 3)).apply({"params": params["conv"]}, x)
    np.testing.assert_allclose(conv.apply({"params": params}, x), expected, atol=1e-5)


def test_cpus_compute_bfloat16_equally_with_and_without_amx(monkeypatch):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    params = Conv3x3(4).init(jax.random.key(1), x)
    outputs = []
    for has_amx in (True, False):
        monkeypatch.setattr(convolution, "has_fast_bfloat16", lambda x=has_amx: x)
        outputs.append(Conv3x3(4, jnp.bfloat16).apply(params, x))
    fast, slow = outputs
    assert fast.dtype == slow.dtype == jnp.float32
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5)
    error = np.std(Conv3x3(4).apply(params, x) - fast) / np.std(fast)
    assert 2**-11 < error < 2**-8  # the rounding error of an 8-bit significand


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ["cpu", "tpu", "gpu"])
def test_activations_are_float32_on_cpus_and_of_the_given_dtype_elsewhere(
    monkeypatch, name, dtype
):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    x = jnp.ones((2, 8, 8, 3), dtype)
    for conv in (Conv3x3(4, dtype), Conv1x1(4, dtype)):
        y, _ = jax.eval_shape(conv.init_with_output, jax.random.key(0), x)
        assert y.dtype == (jnp.float32 if name == "cpu" else dtype)
    assert (cpu.conv_general_dilated(dtype) is None) == (name != "cpu")


def test_conv1x1_is_a_dense_layer_on_each_pixel():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    conv, dense = Conv1x1(6), nn.Dense(6, use_bias=False)
    params = conv.init(jax.random.key(1), x)
    chex.assert_trees_all_equal(params, dense.init(jax.random.key(1), x))
    expected = dense.apply(params, x)
    np.testing.assert_allclose(conv.apply(params, x), expected, atol=1e-5)


def test_prevent_inplace_changes_neither_values_nor_gradients():
    x = jnp.arange(48.0).reshape(2, 4, 2, 3)
    np.testing.assert_array_equal(layout.prevent_inplace(x), x)
    gradient = jax.grad(lambda x: (layout.prevent_inplace(x) ** 2).sum())(x)
    np.testing.assert_array_equal(gradient, 2 * x)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_chunks_of_two_examples_equal_all_examples_at_once(n):
    x, dy = jax.random.normal(jax.random.key(n), (2, n, 4, 4, 3))

    def products(x, dy):
        return jnp.einsum("nhwc,nhwd->cd", x, dy)

    total = layout.sum_chunks(products, x, dy, 2)
    np.testing.assert_allclose(total, products(x, dy), rtol=1e-4, atol=1e-4)
    y = layout.map_chunks(lambda x: x[..., 1:] ** 2, x, 2)
    np.testing.assert_array_equal(y, x[..., 1:] ** 2)
