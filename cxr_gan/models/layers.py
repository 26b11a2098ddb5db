"""The few layers both networks are drawn from; all are cheap on TPU, GPU and CPU."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from cxr_gan.models.backend import written


def upsample(x: jax.Array) -> jax.Array:
    """x [n, h, w, c] -> [n, 2h, 2w, c]: bilinear; the border repeats itself.

    Equal to nearest-neighbour doubling and then a [1, 2, 1] / 4 blur on each axis, so
    that no block edges are left for the next convolution to remove.
    """
    return _double(written(_double(written(x), 2)), 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _double(x: jax.Array, axis: int) -> jax.Array:
    """Linear interpolation to twice as many places along one axis.

    The way back is spelt out, one sum of four neighbours: XLA would pad four arrays,
    and add them.
    """
    before, after = _beside(x, x, axis)
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])


def _double_forward(x: jax.Array, axis: int) -> tuple[jax.Array, None]:
    return _double(x, axis), None


def _double_backward(axis: int, _: None, dy: jax.Array) -> tuple[jax.Array]:
    pair = dy.reshape(*dy.shape[:axis], -1, 2, *dy.shape[axis + 1 :])
    first, second = (lax.index_in_dim(pair, i, axis + 1, False) for i in (0, 1))
    before, after = _beside(first, second, axis)
    return (0.75 * (first + second) + 0.25 * (before + after),)


_double.defvjp(_double_forward, _double_backward)


def _beside(x: jax.Array, y: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """What lies before each place of y, and after each of x, along one axis.

    Before the first place lies that of x, after the last that of y: of one and the same
    array, the border repeats itself.
    """
    size = x.shape[axis]
    part = functools.partial(lax.slice_in_dim, axis=axis)
    before = jnp.concatenate([part(x, 0, 1), part(y, 0, size - 1)], axis)
    after = jnp.concatenate([part(x, 1, size), part(y, size - 1, size)], axis)
    return before, after


def blur(x: jax.Array) -> jax.Array:
    """x [n, h, w, c] -> the same shape: [-1, 4, 10, 4, -1] / 16 on each axis.

    The border repeats itself. Of symmetric filters of five taps that stop the highest
    frequency, so that no checkerboard passes, it is the one that is flattest at the
    lowest: waves of four pixels keep three quarters of their height. [1, 2, 1] / 4
    leaves them a half, and generated images lacked 7 dB in the finest octave.

    Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again",
    section 3, of a blur that goes with resampling; the taps are ours.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        first = lax.slice_in_dim(x, 0, 1, axis=axis)
        last = lax.slice_in_dim(x, size - 1, size, axis=axis)
        wide = jnp.concatenate([first, first, x, last, last], axis)
        near, far = (
            lax.slice_in_dim(wide, 2 - k, 2 - k + size, axis=axis)
            + lax.slice_in_dim(wide, 2 + k, 2 + k + size, axis=axis)
            for k in (1, 2)
        )
        x = (10 * x + 4 * near - far) / 16
    return x


def checkerboard(x: jax.Array) -> jax.Array:
    """x [n, h, w, c] -> the same shape: the part of it that alternates along both axes.

    A wave of frequencies f and g along the axes, in radians a pixel, keeps
    sin^2(f / 2) sin^2(g / 2) of its height: nothing where either is 0. The border
    repeats itself. Radiographs have so little of it that a discriminator overlooks it,
    and a generator draws 13 dB too much (docs/quality.md).
    """
    for axis in (1, 2):
        before, after = _beside(x, x, axis)
        x = 0.5 * x - 0.25 * (before + after)
    return x


LEAST = 0.01  # slope of tanh at 0.995, two thirds of one of 256 greys from black


@jax.custom_vjp
def tanh(x: jax.Array) -> jax.Array:
    """Hyperbolic tangent, of any shape, that learns its way back from black.

    Where a step downhill leads back to grey its slope is LEAST or more; outwards, its
    own. Without that, a class that the first steps drove to black stays so (2 trainings
    of 14, see docs/quality.md); with it both ways, what is saturated drifts on and on.
    """
    return jnp.tanh(x)


def _tanh_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = jnp.tanh(x)
    return y, y


def _tanh_backward(y: jax.Array, uphill: jax.Array) -> tuple[jax.Array]:
    slope = 1 - y * y
    inwards = uphill * y > 0  # a step goes against it
    return (jnp.where(inwards, jnp.maximum(slope, LEAST), slope) * uphill,)


tanh.defvjp(_tanh_forward, _tanh_backward)


def downsample(x: jax.Array) -> jax.Array:
    """x [n, 2h, 2w, c] -> [n, h, w, c]: the mean of four pixels."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """x [n, h, w, 4c] -> [n, 2h, 2w, c]: four channels become four pixels.

    Source: Shi et al. 2016, "Efficient Sub-Pixel Convolutional Neural Network", eq. 4.
    """
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)


def pixel_unshuffle(x: jax.Array) -> jax.Array:
    """x [n, 2h, 2w, c] -> [n, h, w, 4c]: the inverse of `pixel_shuffle`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // 2, w // 2, 4 * c)


def normalize(
    x: jax.Array,
    scale: jax.Array | float = 1.0,
    bias: jax.Array | float = 0.0,
    epsilon: float = 1e-5,
) -> jax.Array:
    """x [n, ...] -> the same shape: mean 0 and variance 1 over each whole example,
    then times scale, plus bias (broadcast to x).

    float32, whatever x is: sums over whole images need it. Scale and bias are joined
    with mean and variance first, so that x itself is read but once.

    Source: Ba et al. 2016, "Layer Normalization", eq. 3, over height, width, channels.
    """
    x = x.astype(jnp.float32)
    axes = tuple(range(1, x.ndim))
    mean = x.mean(axes, keepdims=True)
    variance = (x * x).mean(axes, keepdims=True) - mean * mean
    gain = scale * lax.rsqrt(jnp.maximum(variance, 0.0) + epsilon)
    gain, shift = written((gain, bias - mean * gain))
    return gain * x + shift


class LayerNorm(nn.Module):
    """LayerNorm over height, width and channels of each image; a gain per channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h, w, c], of x's dtype."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return normalize(x, scale, bias).astype(x.dtype)


class AdaptiveLayerNorm(nn.Module):
    """LayerNorm over height, width and channels, its gains read off a condition.

    Every image is normalised as a whole, so what differs between channels stays; then
    each channel is scaled by 1 + a(condition) and shifted by b(condition).
    """

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """x [n, h, w, c], condition float32 [n, d] -> [n, h, w, c], of x's dtype."""
        init = nn.initializers.normal(0.02)
        gains = nn.Dense(2 * x.shape[-1], kernel_init=init, name="gains")(condition)
        scale, bias = jnp.split(gains[:, None, None, :], 2, axis=-1)
        return normalize(x, 1 + scale, bias).astype(x.dtype)


def group_deviation(x: jax.Array, group: int, num_classes: int) -> jax.Array:
    """x [n, h, w, c] -> [n, h, w, c + 1]: how much an image's class-mates differ.

    Of each `group` consecutive examples, classes interleaved (0, 1, .., 0, 1, ..), the
    new channel holds the logarithm of the deviation over those of the same class,
    meaned over height, width and channels. Taken over all classes at once, what sets
    the classes apart would hide that a generator repeats itself within each; and the
    logarithm pulls the harder the more it does. Groups are fixed, so no device boundary
    cuts one as long as each device holds whole groups.

    Source: Karras et al. 2018, "Progressive Growing of GANs", section 3, made
    class by class and logarithmic.
    """
    n, h, w, c = x.shape
    mates = x.reshape(n // group, group // num_classes, num_classes, h, w, c)
    mates = mates.astype(jnp.float32)
    deviation = jnp.sqrt(mates.var(1, keepdims=True) + 1e-8).mean((3, 4, 5))
    each = jnp.broadcast_to(jnp.log(deviation + 1e-3), mates.shape[:3])
    channel = each.reshape(n, 1, 1, 1).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(channel, (n, h, w, 1))], -1)
