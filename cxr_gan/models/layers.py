"""Layers and resampling filters shared by both networks."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from cxr_gan.models import cpu


def upsample(x: jax.Array) -> jax.Array:
    """x [n, h, w, c] -> [n, 2h, 2w, c]: bilinear, with edge padding.

    Equal to nearest-neighbour upsampling and then a [1, 2, 1] / 4 blur on each axis, so
    that no block edges are left for the next convolution to remove.
    """
    return _upsample_axis(cpu.materialize(_upsample_axis(cpu.materialize(x), 2)), 1)


def _upsample_axis(x: jax.Array, axis: int) -> jax.Array:
    """Linear interpolation to twice the length along one axis."""
    before, after = _neighbours(x, axis)
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])


def _neighbours(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The element before and after each element of an axis, with edge padding."""
    size = x.shape[axis]
    part = functools.partial(lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([part(0, 1), part(0, size - 1)], axis)
    after = jnp.concatenate([part(1, size), part(size - 1, size)], axis)
    return before, after


def blur(x: jax.Array) -> jax.Array:
    """x [n, h, w, c] -> [n, h, w, c]: low-pass [-1, 4, 10, 4, -1] / 16 on each axis.

    Edges are padded with the border pixel. Among the symmetric five-tap filters that
    remove the highest frequency, and with it every checkerboard, this one has the
    flattest response at frequency 0. A wave of period 4 pixels keeps three quarters of
    its amplitude; [1, 2, 1] / 4 keeps one half, and the finest octave of generated
    images was then 7 dB too weak.

    Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again",
    section 3, for a blur combined with resampling; the taps are our own.
    """
    for axis in (1, 2):
        widths = [(2, 2) if i == axis else (0, 0) for i in range(4)]
        padded = jnp.pad(x, widths, mode="edge")
        part = functools.partial(lax.slice_in_dim, padded, axis=axis)
        size = x.shape[axis]
        near, far = (
            part(2 - k, size + 2 - k) + part(2 + k, size + 2 + k) for k in (1, 2)
        )
        x = (10 * x + 4 * near - far) / 16
    return x


def checkerboard(x: jax.Array) -> jax.Array:
    """x [n, h, w, c] -> [n, h, w, c]: its component that alternates along both axes.

    A wave with frequencies f and g along the axes, in radians per pixel, keeps
    sin^2(f / 2) sin^2(g / 2) of its amplitude: nothing where f or g is 0. Edges are
    padded with the border pixel. Radiographs contain so little of this component that a
    discriminator overlooks it, and a generator produces 13 dB too much of it
    (report 2026-11-quality).
    """
    for axis in (1, 2):
        before, after = _neighbours(x, axis)
        x = 0.5 * x - 0.25 * (before + after)
    return x


# The derivative of tanh where its value is 0.995 in magnitude: two thirds of a grey
# level, of 256, from black or white.
MIN_GRADIENT = 0.01


@jax.custom_vjp
def tanh(x: jax.Array) -> jax.Array:
    """tanh with a gradient floor: at least MIN_GRADIENT towards zero, else unchanged.

    x has any shape. The floor applies where a gradient-descent step moves the output
    towards zero, which is grey. Without it, a class that the first steps drive to black
    stays black (2 of 14 trainings, report 2026-11-quality). With a floor both ways,
    saturated outputs drift without end.
    """
    return jnp.tanh(x)


def _tanh_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = jnp.tanh(x)
    return y, y


def _tanh_backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    derivative = 1 - y * y
    towards_zero = dy * y > 0  # gradient descent moves y against dy
    floored = jnp.maximum(derivative, MIN_GRADIENT)
    return (jnp.where(towards_zero, floored, derivative) * dy,)


tanh.defvjp(_tanh_forward, _tanh_backward)


def downsample(x: jax.Array) -> jax.Array:
    """x [n, 2h, 2w, c] -> [n, h, w, c]: mean of each 2 x 2 block of pixels."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """x [n, h, w, 4c] -> [n, 2h, 2w, c]: each 4 channels become 2 x 2 pixels.

    Source: Shi et al. 2016, "Efficient Sub-Pixel Convolutional Neural Network", eq. 4.
    """
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)


def pixel_unshuffle(x: jax.Array, factor: int = 2) -> jax.Array:
    """x [n, h, w, c] -> [n, h / factor, w / factor, c factor^2].

    The inverse of `pixel_shuffle` for factor 2. Used before a first convolution: at
    full resolution that layer has few channels and most of the pixels, so it is slow
    and contributes little.
    """
    n, height, width, c = x.shape
    h, w = height // factor, width // factor
    x = x.reshape(n, h, factor, w, factor, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h, w, factor**2 * c)


def normalize(
    x: jax.Array,
    scale: jax.Array | float = 1.0,
    bias: jax.Array | float = 0.0,
    epsilon: float = 1e-5,
) -> jax.Array:
    """x [n, ...] -> the same shape, float32: scale * standardized x + bias.

    Each example is standardized over all its elements, to mean 0 and variance 1; scale
    and bias broadcast to x. Computed in float32 for any dtype of x, because the sums
    over an image need it. Scale and bias are first combined with mean and variance into
    one gain and one shift, so that x is read once for the output.

    Source: Ba et al. 2016, "Layer Normalization", eq. 3, over height, width, channels.
    """
    x = x.astype(jnp.float32)
    axes = tuple(range(1, x.ndim))
    mean = x.mean(axes, keepdims=True)
    variance = (x * x).mean(axes, keepdims=True) - mean * mean
    gain = scale * lax.rsqrt(jnp.maximum(variance, 0.0) + epsilon)
    return gain * x + (bias - mean * gain)


class LayerNorm(nn.Module):
    """LayerNorm over height, width and channels; a scale and a bias per channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h, w, c], of x's dtype."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return normalize(x, scale, bias).astype(x.dtype)


class AdaptiveLayerNorm(nn.Module):
    """LayerNorm whose scale and bias per channel are predicted from a condition.

    The statistics are those of height, width and channels together, so differences
    between channels remain. Then each channel is scaled by 1 + a(condition) and shifted
    by b(condition); a and b are affine.
    """

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """x [n, h, w, c], condition float32 [n, d] -> [n, h, w, c], of x's dtype."""
        init = nn.initializers.normal(0.02)
        gains = nn.Dense(2 * x.shape[-1], kernel_init=init, name="gains")(condition)
        scale, bias = jnp.split(gains[:, None, None, :], 2, axis=-1)
        return normalize(x, 1 + scale, bias).astype(x.dtype)


def group_deviation(x: jax.Array, group_size: int, num_classes: int) -> jax.Array:
    """x [n, h, w, c] -> [n, h, w, c + 1]: appends the variation within each class.

    A group is `group_size` consecutive examples with classes interleaved (0, 1, .., 0,
    1, ..). The new channel holds, for each example, the logarithm of the standard
    deviation over the examples of its class in its group, averaged over height, width
    and channels before the logarithm. Over all classes at once, the differences between
    classes would hide a mode collapse within each class. The gradient of the logarithm
    grows as the deviation falls, so it counteracts a collapse the more, the further it
    has gone. Groups are fixed; each device must hold complete groups.

    Source: Karras et al. 2018, "Progressive Growing of GANs", section 3, here per class
    and with a logarithm.
    """
    n, h, w, c = x.shape
    groups = x.reshape(n // group_size, group_size // num_classes, num_classes, h, w, c)
    groups = groups.astype(jnp.float32)
    deviation = jnp.sqrt(groups.var(1, keepdims=True) + 1e-8).mean((3, 4, 5))
    values = jnp.broadcast_to(jnp.log(deviation + 1e-3), groups.shape[:3])
    channel = values.reshape(n, 1, 1, 1).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(channel, (n, h, w, 1))], -1)
