import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cxr_gan.models import winograd
from cxr_gan.models.convolution import LAYOUT


def plain(x, w):
    """In float64, by NumPy: a sum over the nine places of a kernel."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    side = x.shape[1]
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [(i, j) for i in range(3) for j in range(3)]
    return sum(wide[:, i : i + side, j : j + side] @ w[i, j] for i, j in places)


def test_the_transforms_of_a_line_are_those_of_toom_and_cook():
    """Along one axis: of 6 pixels and 3 weights, 4 answers, in exact arithmetic."""
    of_image, of_kernel, to_tile = winograd._transforms()
    pixels, weights = np.array([3.0, -1, 4, 1, -5, 9]), np.array([2.0, -7, 1])
    answers = to_tile @ ((of_kernel @ weights) * (of_image @ pixels))
    # 3*2 + 7 + 4 = 17; -2 - 28 + 1 = -29; 8 - 7 - 5 = -4; 2 + 35 + 9 = 46
    np.testing.assert_allclose(answers, [17, -29, -4, 46], atol=1e-10)


@pytest.mark.parametrize("side", [4, 8, 32])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_convolve_is_a_convolution_to_a_hundred_thousandth(n, side):
    key_x, key_w = jax.random.split(jax.random.key(side + n))
    x = jax.random.normal(key_x, (n, side, side, 64))
    w = jax.random.normal(key_w, (3, 3, 64, 48)) / 24  # answers of deviation 1
    np.testing.assert_allclose(winograd.convolve(x, w), plain(x, w), atol=1.5e-5)


@pytest.mark.parametrize(("n", "side"), [(1, 4), (3, 8), (4, 16), (3, 16), (2, 32)])
def test_the_slope_of_the_weights_is_that_of_a_convolution(n, side):
    key_x, key_dy = jax.random.split(jax.random.key(side + n))
    x = jax.random.normal(key_x, (n, side, side, 5))
    dy = jax.random.normal(key_dy, (n, side, side, 7))

    def answers(w):
        pad = [(1, 1), (1, 1)]
        answer = lax.conv_general_dilated(x, w, (1, 1), pad, dimension_numbers=LAYOUT)
        return (answer * dy).sum()

    expected = jax.grad(answers)(jnp.zeros((3, 3, 5, 7)))
    largest = float(jnp.abs(expected).max())
    slope = winograd.of_weights(x, dy)
    np.testing.assert_allclose(slope, expected, atol=1e-5 * largest)


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_that_share_a_batch_find_the_same_slope(devices):
    key_x, key_dy = jax.random.split(jax.random.key(devices))
    x = jax.random.normal(key_x, (16, 16, 16, 32))
    dy = jax.random.normal(key_dy, (16, 16, 16, 64))
    whole = winograd.of_weights(x, dy)
    shares = zip(jnp.split(x, devices), jnp.split(dy, devices), strict=True)
    dealt_out = sum(winograd.of_weights(*share) for share in shares)
    np.testing.assert_allclose(dealt_out, whole, atol=1e-5 * float(whole.std()))


def test_an_image_is_answered_alike_whatever_is_beside_it():
    x = jax.random.normal(jax.random.key(0), (8, 8, 8, 32))
    w = jax.random.normal(jax.random.key(1), (3, 3, 32, 32))
    order = jnp.array([3, 1, 0, 2, 7, 5, 6, 4])
    moved = jax.jit(winograd.convolve)(x[order], w)
    answers = jax.jit(winograd.convolve)(x, w)
    np.testing.assert_allclose(moved, answers[order], atol=1e-5)


def test_a_shape_is_traced_once_however_many_convolutions_have_it(monkeypatch):
    traced = []
    along_h = winograd._along_h
    monkeypatch.setattr(
        winograd, "_along_h", lambda *args: traced.append(0) or along_h(*args)
    )
    jax.clear_caches()
    x, w = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 3))

    def twice(x):
        return winograd.convolve(winograd.convolve(x, w), w)

    jax.make_jaxpr(twice)(x)
    assert len(traced) == 1
