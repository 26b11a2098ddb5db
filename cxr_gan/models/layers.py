"""Layers and resampling filters shared by both networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
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
    """Linear interpolation to twice the length along one axis, with edge padding."""
    size = x.shape[axis]
    part = functools.partial(lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([part(0, 1), part(0, size - 1)], axis)
    after = jnp.concatenate([part(1, size), part(size - 1, size)], axis)
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def downsample(x: jax.Array) -> jax.Array:
    """x [n, 2h, 2w, c] -> [n, h, w, c]: mean of each 2 x 2 block of pixels."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def emphasis_matrix(size: int) -> np.ndarray:
    """float64 [size, size]: the filter [-1, 6, -1] / 4 along one axis, edges padded.

    A wave of f radians per pixel is multiplied by 1 + sin^2(f / 2): by 1 where f is 0,
    by 2 at the highest frequency. The sum of each row is 1.
    """
    last = size - 1
    neighbours = np.eye(size, k=1) + np.eye(size, k=-1)
    neighbours[0, 0] = neighbours[last, last] = 1
    return 1.5 * np.eye(size) - 0.25 * neighbours


def emphasize(x: jax.Array, power: int = 1) -> jax.Array:
    """x [n, s, s, 1] -> [n, s, s, 1]: `emphasis_matrix` ** power along both axes.

    Power -1 is the inverse. Radiographs have little power at high frequencies, which a
    discriminator otherwise overlooks (report 2026-12-full-resolution).
    """
    matrix = np.linalg.matrix_power(emphasis_matrix(x.shape[1]), power)
    m, exact = jnp.asarray(matrix, jnp.float32), lax.Precision.HIGHEST
    return jnp.einsum("ih,nhwc,jw->nijc", m, x, m, precision=exact)


def noise_patterns(latent_size: int, size: int) -> np.ndarray:
    """float32 [2, d, s]: random signs times d^(-1/4), by row and by column.

    Trained weights depend on these patterns, so they must never change. They are made
    from the raw bits of PCG64, which are the same in all versions of NumPy (NEP 19).
    """
    raw = np.random.PCG64(0).random_raw(2 * latent_size * size)
    signs = 1.0 - 2.0 * (raw >> np.uint64(63)).reshape(2, latent_size, size)
    return (signs / latent_size**0.25).astype(np.float32)


def noise_of_latent(z: jax.Array, size: int) -> jax.Array:
    """Noise that is a fixed linear function of the latent: [n, d] -> [n, s, s, 1].

    Each dimension of z multiplies a pattern, the product of random signs of each row
    and each column. For z of N(0, 1), a pixel is N(0, 1), and the correlation of two
    pixels is about d^(-1/2). Without noise, G would have to compute the grain of
    radiographs from features that vary slowly.
    """
    rows, columns = jnp.asarray(noise_patterns(z.shape[1], size))
    exact = lax.Precision.HIGHEST
    return jnp.einsum("nd,dh,dw->nhw", z, rows, columns, precision=exact)[..., None]


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


def _tanh_backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    # Gradient descent moves y against dy.
    floor = jnp.where(dy * y > 0, MIN_GRADIENT, 0.0)
    return (jnp.maximum(1 - y * y, floor) * dy,)


tanh.defvjp(lambda x: (y := jnp.tanh(x), y), _tanh_backward)


def normalize(
    x: jax.Array,
    scale: jax.Array | float = 1.0,
    bias: jax.Array | float = 0.0,
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
    gain = scale * lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-5)
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
