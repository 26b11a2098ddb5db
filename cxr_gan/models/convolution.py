"""Convolutions whose gradients are what XLA:CPU multiplies fast."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from cxr_gan.models import bfloat16, winograd
from cxr_gan.models.backend import (
    apart,
    learn_at_once,
    multiplies_bfloat16,
    on_cpu,
    stored,
    sum_chunks,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")
SLENDER, WIDENED = 16, 20  # channels, see _slender
FEW = 4  # pixels a side, see _to_image
Saved = tuple[jax.Array, jax.Array]  # x and w, or their gradients


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, w: jax.Array, pad: int) -> jax.Array:
    """x [n, h, w, c], w [k, k, c, d] -> [n, h + 2 pad + 1 - k, w + 2 pad + 1 - k, d].

    XLA:CPU multiplies at full speed only where a convolution reads NHWC and HWIO, and
    inside a loop or a branch it mends no other: there its own weight gradients run
    dozens of times slower. So both gradients are spelt as calls of this very function,
    which keeps second derivatives (the R1 penalty) canonical as well; those of the
    weights need h = w. Where it pays, it is Winograd's algorithm, or, towards images
    of few pixels, one product of matrices.
    """
    if winograd.pays(x, w.shape, pad):
        return apart(winograd.convolve(x, w))
    channels = w.shape[3]
    if _slender(x, w.shape):
        x, w = _widened(x, w)
    y = lax.conv_general_dilated(
        x, w, (1, 1), [(pad, pad), (pad, pad)], dimension_numbers=LAYOUT
    )
    return apart(y)[..., :channels]


def _slender(x: jax.Array, kernel: tuple[int, ...]) -> bool:
    """Whether to widen x [n, h, w, c], or its answer, for a kernel [k, k, c, d].

    Its library for convolutions of float32 XLA:CPU takes from 17 channels on, in or
    out; from 16 to 4 and back that is 2.5 times as fast, from 16 to 16 1.3 times. A
    kernel as large as the image, as where weights learn, gains nothing.
    """
    few = max(kernel[2:]) <= SLENDER and kernel[0] <= winograd.KERNEL < x.shape[1]
    return few and x.dtype == jnp.float32


def _widened(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same with channels of zeros: in, or out if there are more of these."""
    more = WIDENED - max(w.shape[2:])
    inwards, outwards = (more, 0) if w.shape[2] >= w.shape[3] else (0, more)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, inwards)))
    return x, jnp.pad(w, ((0, 0), (0, 0), (0, inwards), (0, outwards)))


def _forward(x: jax.Array, w: jax.Array, pad: int) -> tuple[jax.Array, Saved]:
    return convolve(x, w, pad), (x, w)


def _backward(pad: int, saved: Saved, dy: jax.Array) -> Saved:
    x, w = saved
    if winograd.pays(x, w.shape, pad):
        dw = winograd.of_weights(x, dy)
    else:
        slope = functools.partial(_correlate, pad=pad)
        dw = sum_chunks(slope, x, dy, _at_once(x, w.shape)).astype(x.dtype)
    return _to_image(x, w, dy, pad), dw


def _to_image(x: jax.Array, w: jax.Array, dy: jax.Array, pad: int) -> jax.Array:
    """The slope of x [n, h, w, c] for a kernel [k, k, c, d]: dy by the kernel mirrored.

    To turn a kernel of many channels round takes as long as to multiply few pixels by
    it. So those are multiplied by the kernel as it is, and what each gives to its
    neighbours is added up.
    """
    few = x.shape[1] <= FEW and len(w) == 2 * pad + 1
    if few and not winograd.pays(x, w.shape, pad):
        return apart(_spread(dy, w, pad))
    mirrored = w[::-1, ::-1].transpose(0, 1, 3, 2)
    return convolve(dy, mirrored, len(w) - 1 - pad)


def _spread(dy: jax.Array, w: jax.Array, pad: int) -> jax.Array:
    """dy [n, h, w, d], w [2 pad + 1, 2 pad + 1, c, d] -> [n, h, w, c]."""
    k, channels, d = len(w), *w.shape[2:]
    given = dy.reshape(-1, d) @ w.reshape(-1, d).T
    given = given.reshape(*dy.shape[:3], k * k, channels)
    shifts = [(at // k - pad, at % k - pad) for at in range(k * k)]
    edges = [[(0, 0, 0), (i, -i, 0), (j, -j, 0), (0, 0, 0)] for i, j in shifts]
    zero = jnp.zeros((), dy.dtype)
    terms = [lax.pad(given[:, :, :, at], zero, edge) for at, edge in enumerate(edges)]
    return functools.reduce(jnp.add, terms)


def _at_once(x: jax.Array, kernel: tuple[int, ...]) -> int:
    """How many examples of x [n, h, h, c] weights [k, k, c, d] learn from together."""
    return 8 if max(kernel[2:]) <= SLENDER else learn_at_once(*x.shape[:2])


def _correlate(x: jax.Array, dy: jax.Array, pad: int) -> jax.Array:
    """x [n, h, h, c], dy [n, h', h', d] -> [k, k, c, d]: the slope of w, in one go.

    Of the two ways to write it the one is taken whose kernel has more channels out.
    """
    as_images, as_kernel = (3, 1, 2, 0), (1, 2, 0, 3)
    if x.shape[-1] <= dy.shape[-1]:
        dw = convolve(x.transpose(as_images), dy.transpose(as_kernel), pad)
        return dw.transpose(1, 2, 0, 3)
    pad += x.shape[1] - dy.shape[1]
    dw = convolve(dy.transpose(as_images), x.transpose(as_kernel), pad)
    return dw[:, ::-1, ::-1].transpose(1, 2, 3, 0)


convolve.defvjp(_forward, _backward)


def _same(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """What `nn.Conv` calls: stride 1 and equal sizes in and out are ours alone."""
    return convolve(x, kernel, (kernel.shape[0] - 1) // 2)


def _same_of_bfloat16(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """The same of what is rounded to bfloat16, multiplied and summed in float32."""
    if multiplies_bfloat16():
        return apart(bfloat16.convolve(x, kernel))
    return _same(*(lax.reduce_precision(a, 8, 7) for a in (x, kernel)))


ON_CPU = {"float32": _same, "bfloat16": _same_of_bfloat16}  # by what is multiplied


class Conv3x3(nn.Module):
    """A 3 x 3 convolution with bias, as large as its input, zeros around."""

    features: int
    dtype: Any = jnp.float32  # of the arithmetic; weights stay float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h, w, features], of dtype; float32 on CPUs."""
        own = ON_CPU[jnp.dtype(self.dtype).name] if on_cpu() else None
        return nn.Conv(
            self.features,
            (3, 3),
            dtype=stored(self.dtype),
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=own,
            name="conv",
        )(x)


class Conv1x1(nn.Module):
    """A 1 x 1 convolution without bias.

    All pixels are the rows of one matrix. The slope of the weights is then a plain
    product too: twice to four times as fast on CPUs as that of a product of four axes.
    """

    features: int
    dtype: Any = jnp.float32  # of the arithmetic; weights stay float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h, w, features], of dtype; float32 on CPUs."""
        channels, dtype = x.shape[-1], stored(self.dtype)
        shape = channels, self.features
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        mixed = x.reshape(-1, channels).astype(dtype) @ kernel.astype(dtype)
        return mixed.reshape(*x.shape[:-1], self.features)
