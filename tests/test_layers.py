import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.models import layers

X = jax.random.normal(jax.random.key(0), (4, 6, 8, 4)) * 3 + 5


def test_pixel_unshuffle_undoes_pixel_shuffle():
    shuffled = layers.pixel_shuffle(X)
    assert shuffled.shape == (4, 12, 16, 1)
    np.testing.assert_array_equal(layers.pixel_unshuffle(shuffled), X)


def test_pixel_shuffle_lays_four_channels_out_as_a_square():
    x = jnp.arange(4.0).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(layers.pixel_shuffle(x)[0, :, :, 0], [[0, 1], [2, 3]])


def test_upsample_is_bilinear_with_the_border_repeated():
    x = jnp.array([[0.0, 4.0], [8.0, 12.0]]).reshape(1, 2, 2, 1)
    across, down = np.array([0, 1, 3, 4]), np.array([0, 2, 6, 8])
    expected = down[:, None] + across
    np.testing.assert_allclose(layers.upsample(x)[0, :, :, 0], expected)
    resized = jax.image.resize(X, (4, 12, 16, 4), "bilinear")
    np.testing.assert_allclose(layers.upsample(X), resized, rtol=1e-4, atol=1e-5)


def test_the_way_back_of_upsample_is_its_transpose():
    dy = jax.random.normal(jax.random.key(1), (4, 12, 16, 4))
    (back,) = jax.vjp(layers.upsample, X)[1](dy)
    (expected,) = jax.linear_transpose(
        lambda x: jax.image.resize(x, dy.shape, "bilinear"), X
    )(dy)
    np.testing.assert_allclose(back, expected, rtol=1e-4, atol=1e-5)


def test_blur_takes_a_checkerboard_out_and_leaves_the_rest_in_place():
    board = jnp.indices((8, 10)).sum(0) % 2 * 2.0 - 1
    inside = np.s_[:, 2:-2, 2:-2]
    blurred = layers.blur(board[None, :, :, None])
    np.testing.assert_allclose(blurred[inside], 0, atol=1e-6)
    ramp = jnp.indices((8, 10)).sum(0, dtype=jnp.float32)[None, :, :, None]
    np.testing.assert_allclose(layers.blur(ramp)[inside], ramp[inside], rtol=1e-6)
    np.testing.assert_allclose(layers.blur(jnp.ones_like(X)), 1, rtol=1e-6)


def test_blur_keeps_three_quarters_of_a_wave_of_four_pixels():
    wave = jnp.broadcast_to(jnp.array([1.0, 0, -1, 0] * 3), (1, 12, 12))[..., None]
    blurred = layers.blur(wave)[:, :, 2:-2]
    np.testing.assert_allclose(blurred, 0.75 * wave[:, :, 2:-2], atol=1e-6)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_tanh_learns_its_way_back_from_black_or_white_but_not_further_into_it(side):
    x = side * jnp.array([0.5, 2.0, 9.0])
    y, pull = jax.vjp(layers.tanh, x)
    np.testing.assert_array_equal(y, jnp.tanh(x))
    own = 1 - np.tanh(np.asarray(x, np.float64)) ** 2
    (back,), (out,) = pull(jnp.full(3, side)), pull(jnp.full(3, -side))
    np.testing.assert_allclose(back, side * np.maximum(own, 0.01), rtol=1e-4)
    np.testing.assert_allclose(out, -side * own, rtol=1e-4, atol=1e-6)


def wave(f: float, g: float) -> jax.Array:
    """Of so many radians a pixel, down and across: [1, 16, 16, 1]."""
    down, across = jnp.cos(f * jnp.arange(16.0)), jnp.cos(g * jnp.arange(16.0))
    return (down[:, None] * across)[None, :, :, None]


@pytest.mark.parametrize(
    ("f", "g", "kept"),
    [
        (jnp.pi, jnp.pi, 1),
        (jnp.pi, 0, 0),  # stripes one pixel wide
        (0, jnp.pi, 0),
        (jnp.pi, jnp.pi / 2, 1 / 2),
        (jnp.pi / 2, jnp.pi / 2, 1 / 4),
        (0, 0, 0),
    ],
)
def test_a_checkerboard_is_what_alternates_along_both_axes(f, g, kept):
    fine = layers.checkerboard(wave(f, g))[:, 1:-1, 1:-1]
    np.testing.assert_allclose(fine, kept * wave(f, g)[:, 1:-1, 1:-1], atol=1e-6)


def test_downsample_is_the_mean_of_four():
    x = jnp.array([[1.0, 2.0], [3.0, 6.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(layers.downsample(x), [[[[3]]]])


def test_normalize_gives_each_whole_example_mean_0_and_variance_1():
    y = layers.normalize(X)
    np.testing.assert_allclose(y.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2, 3)), 1, rtol=1e-4)
    assert jnp.abs(y.mean((1, 2))).min() > 1e-3  # channels keep what differs


def test_normalize_leaves_a_constant_at_zero_with_finite_slopes():
    flat = jnp.full((1, 2, 2, 3), 0.3)
    np.testing.assert_allclose(layers.normalize(flat), 0, atol=1e-3)
    slope = jax.grad(lambda x: (layers.normalize(x) ** 3).sum())(flat)
    assert jnp.isfinite(slope).all()


@pytest.fixture(scope="module")
def adaptive():
    condition = jax.random.normal(jax.random.key(1), (4, 3))
    norm = layers.AdaptiveLayerNorm()
    params = norm.init(jax.random.key(2), X, condition)
    return lambda condition: norm.apply(params, X, condition)


def test_adaptive_norm_of_condition_zero_only_normalises(adaptive):
    expected = layers.normalize(X)
    np.testing.assert_allclose(adaptive(jnp.zeros((4, 3))), expected, atol=1e-6)


def test_adaptive_norm_steers_each_example_by_its_own_condition(adaptive):
    neutral = jnp.zeros((4, 3))
    changed = (adaptive(neutral.at[1].set(9)) != adaptive(neutral)).any((1, 2, 3))
    np.testing.assert_array_equal(changed, [False, True, False, False])


def test_layer_norm_scales_and_shifts_each_channel():
    variables = {"scale": jnp.arange(4.0), "bias": jnp.array([0.0, 0, 0, 7])}
    y = layers.LayerNorm().apply({"params": variables}, X)
    expected = layers.normalize(X) * variables["scale"] + variables["bias"]
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_group_deviation_is_that_of_class_mates_within_a_group():
    """Two groups of four, classes 0, 1, 0, 1: mates are every other one."""
    x = jnp.array([1.0, 9.0, 3.0, 9.0, 5.0, 0.0, 5.0, 8.0]).reshape(8, 1, 1, 1)
    y = layers.group_deviation(x, group=4, num_classes=2)[:, 0, 0]
    np.testing.assert_array_equal(y[:, 0], x.ravel())
    deviation = np.array([1, 0, 1, 0, 0, 4, 0, 4])  # of 1, 3; 9, 9; 5, 5; 0, 8
    np.testing.assert_allclose(np.exp(y[:, 1]), deviation + 1e-3, atol=2e-4)


def test_group_deviation_depends_on_class_mates_of_its_own_group_alone():
    x = jax.random.normal(jax.random.key(0), (8, 2, 2, 3))
    before, after = (
        layers.group_deviation(y, 4, 2)[..., -1] for y in (x, x.at[5].set(0))
    )
    np.testing.assert_array_equal(jnp.unique(jnp.nonzero(before != after)[0]), [5, 7])


def test_group_deviation_of_equal_images_has_finite_slopes():
    equal = jnp.ones((4, 2, 2, 3))
    slope = jax.grad(lambda x: layers.group_deviation(x, 4, 2).sum())(equal)
    assert jnp.isfinite(slope).all()
