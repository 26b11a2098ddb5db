import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.models import layers

X = jax.random.normal(jax.random.key(0), (4, 6, 8, 4)) * 3 + 5


def test_upsample_is_bilinear_with_edge_padding():
    x = jnp.array([[0.0, 4.0], [8.0, 12.0]]).reshape(1, 2, 2, 1)
    across, down = np.array([0, 1, 3, 4]), np.array([0, 2, 6, 8])
    expected = down[:, None] + across
    np.testing.assert_allclose(layers.upsample(x)[0, :, :, 0], expected)
    resized = jax.image.resize(X, (4, 12, 16, 4), "bilinear")
    np.testing.assert_allclose(layers.upsample(X), resized, rtol=1e-4, atol=1e-5)


def test_gradient_of_upsample_is_its_transpose():
    dy = jax.random.normal(jax.random.key(1), (4, 12, 16, 4))
    (gradient,) = jax.vjp(layers.upsample, X)[1](dy)
    (expected,) = jax.linear_transpose(
        lambda x: jax.image.resize(x, dy.shape, "bilinear"), X
    )(dy)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_tanh_gradient_has_a_floor_only_towards_zero(sign):
    x = sign * jnp.array([0.5, 2.0, 9.0])
    y, vjp_fn = jax.vjp(layers.tanh, x)
    np.testing.assert_array_equal(y, jnp.tanh(x))
    derivative = 1 - np.tanh(np.asarray(x, np.float64)) ** 2
    (towards,), (away,) = vjp_fn(jnp.full(3, sign)), vjp_fn(jnp.full(3, -sign))
    np.testing.assert_allclose(towards, sign * np.maximum(derivative, 0.01), rtol=1e-4)
    np.testing.assert_allclose(away, -sign * derivative, rtol=1e-4, atol=1e-6)


def test_noise_has_variance_1_and_is_a_linear_function_of_the_latent():
    z = jax.random.normal(jax.random.key(0), (2000, 64))
    noise = np.asarray(layers.noise_of_latent(z, 16))
    assert noise.shape == (2000, 16, 16, 1)
    np.testing.assert_allclose(noise.var(0), 1, atol=0.15)
    pixels = noise.reshape(2000, -1)
    others = np.corrcoef(pixels, rowvar=False) - np.eye(256)
    assert np.abs(others).mean() < 0.12  # 64 dimensions: 1 / 8 is one deviation
    combined = layers.noise_of_latent(2 * z[:1] - z[1:2], 16)
    np.testing.assert_allclose(combined, 2 * noise[:1] - noise[1:2], atol=1e-4)


def test_patterns_of_the_noise_never_change():
    signs = np.sign(layers.noise_patterns(128, 64))
    assert set(signs.ravel().tolist()) == {-1, 1}
    digest = hashlib.sha256(signs.astype(np.int8).tobytes()).hexdigest()
    assert digest.startswith("6c6f90a3e53abc36")


def wave(f: float, g: float) -> jax.Array:
    """Wave of f radians per pixel down and g across, [1, 16, 16, 1]."""
    down, across = jnp.cos(f * jnp.arange(16.0)), jnp.cos(g * jnp.arange(16.0))
    return (down[:, None] * across)[None, :, :, None]


@pytest.mark.parametrize(
    ("f", "g", "gain"),
    [
        (jnp.pi, jnp.pi, 4),
        (jnp.pi, 0, 2),  # stripes one pixel wide
        (0, jnp.pi, 2),
        (jnp.pi, jnp.pi / 2, 3),
        (jnp.pi / 2, jnp.pi / 2, 9 / 4),
        (0, 0, 1),
    ],
)
def test_emphasis_amplifies_high_frequencies_along_each_axis(f, g, gain):
    found = layers.emphasize(wave(f, g))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(found, gain * wave(f, g)[:, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("power", [1, -1])
def test_emphasis_of_the_opposite_power_is_its_inverse(power):
    x = jax.random.normal(jax.random.key(0), (3, 32, 32, 1))
    y = layers.emphasize(x, power)
    assert jnp.abs(y - x).max() > 0.1
    np.testing.assert_allclose(layers.emphasize(y, -power), x, atol=1e-5)


def test_emphasis_keeps_constant_images():
    grey = jnp.full((1, 8, 8, 1), 0.7)
    np.testing.assert_allclose(layers.emphasize(grey), grey, rtol=1e-6)


def test_downsample_is_the_mean_of_four_pixels():
    x = jnp.array([[1.0, 2.0], [3.0, 6.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(layers.downsample(x), [[[[3]]]])


def test_normalize_gives_each_example_mean_0_and_variance_1():
    y = layers.normalize(X)
    np.testing.assert_allclose(y.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2, 3)), 1, rtol=1e-4)
    assert jnp.abs(y.mean((1, 2))).min() > 1e-3  # channels still differ


def test_normalize_of_a_constant_is_zero_with_finite_gradient():
    constant = jnp.full((1, 2, 2, 3), 0.3)
    np.testing.assert_allclose(layers.normalize(constant), 0, atol=1e-3)
    gradient = jax.grad(lambda x: (layers.normalize(x) ** 3).sum())(constant)
    assert jnp.isfinite(gradient).all()


@pytest.fixture(scope="module")
def adaptive_norm():
    condition = jax.random.normal(jax.random.key(1), (4, 3))
    norm = layers.AdaptiveLayerNorm()
    params = norm.init(jax.random.key(2), X, condition)
    return lambda condition: norm.apply(params, X, condition)


def test_adaptive_norm_with_condition_zero_only_normalizes(adaptive_norm):
    expected = layers.normalize(X)
    np.testing.assert_allclose(adaptive_norm(jnp.zeros((4, 3))), expected, atol=1e-6)


def test_adaptive_norm_applies_to_each_example_its_own_condition(adaptive_norm):
    zeros = jnp.zeros((4, 3))
    different = adaptive_norm(zeros.at[1].set(9)) != adaptive_norm(zeros)
    changed = different.any((1, 2, 3))
    np.testing.assert_array_equal(changed, [False, True, False, False])


def test_layer_norm_scales_and_shifts_each_channel():
    variables = {"scale": jnp.arange(4.0), "bias": jnp.array([0.0, 0, 0, 7])}
    y = layers.LayerNorm().apply({"params": variables}, X)
    expected = layers.normalize(X) * variables["scale"] + variables["bias"]
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_group_deviation_is_computed_per_class_within_a_group():
    """Two groups of four with classes 0, 1, 0, 1: every other example is compared."""
    x = jnp.array([1.0, 9.0, 3.0, 9.0, 5.0, 0.0, 5.0, 8.0]).reshape(8, 1, 1, 1)
    y = layers.group_deviation(x, group_size=4, num_classes=2)[:, 0, 0]
    np.testing.assert_array_equal(y[:, 0], x.ravel())
    deviation = np.array([1, 0, 1, 0, 0, 4, 0, 4])  # of 1, 3; 9, 9; 5, 5; 0, 8
    np.testing.assert_allclose(np.exp(y[:, 1]), deviation + 1e-3, atol=2e-4)


def test_group_deviation_of_equal_images_has_a_finite_gradient():
    equal = jnp.ones((4, 2, 2, 3))
    gradient = jax.grad(lambda x: layers.group_deviation(x, 4, 2).sum())(equal)
    assert jnp.isfinite(gradient).all()
