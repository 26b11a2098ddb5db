"""2-D convolution with custom gradients that XLA:CPU computes fast."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cxr_gan.models.cpu import bfloat16, winograd
from cxr_gan.models.cpu.layout import chunk_size, prevent_inplace, sum_chunks
from cxr_gan.runtime.cpu import has_fast_bfloat16, on_cpu

LAYOUT = ("NHWC", "HWIO", "NHWC")
FEW_CHANNELS, PADDED_CHANNELS = 16, 20  # see _has_few_channels
SMALL_SIDE = 4  # pixels; see _input_gradient
# Images at once in the weight gradient of few channels; chunks of two are slower
# (report 2026-12-full-resolution).
FEW_CHANNELS_CHUNK = 8

Saved = tuple[jax.Array, jax.Array]  # x and w, or their gradients


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, w: jax.Array, pad: int) -> jax.Array:
    """x [n, h, w, c], w [k, k, c, d] -> [n, h + 2 pad + 1 - k, w + 2 pad + 1 - k, d].

    Stride 1, zero padding of `pad` pixels on each side. The weight gradient needs
    h = w.

    XLA:CPU convolves at full speed only with the layouts NHWC and HWIO. It rewrites
    other layouts, but not inside a loop or a branch: there, JAX's own weight gradients
    are dozens of times slower. So both gradients are calls of this same function, which
    keeps second derivatives (the R1 penalty) in these layouts as well. Where it is
    faster, Winograd's algorithm is used, or, for the input gradient of small images,
    one matrix product.
    """
    if winograd.is_profitable(x, w.shape, pad):
        return prevent_inplace(winograd.convolve(x, w))
    channels = w.shape[3]
    if _has_few_channels(x, w.shape):
        x, w = _pad_channels(x, w)
    padding = [(pad, pad), (pad, pad)]
    y = lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=LAYOUT)
    return prevent_inplace(y)[..., :channels]


def _has_few_channels(x: jax.Array, kernel: tuple[int, ...]) -> bool:
    """Whether to pad the channels for x [n, h, w, c] and a kernel [k, k, c, d].

    XLA:CPU uses its convolution library for float32 only from 17 input or output
    channels on. The library is 2.5 times as fast from 16 to 4 channels and from 4 to
    16, and 1.3 times from 16 to 16. Kernels as large as the image, as in weight
    gradients, gain nothing.
    """
    few = max(kernel[2:]) <= FEW_CHANNELS and kernel[0] <= winograd.KERNEL < x.shape[1]
    return few and x.dtype == jnp.float32


def _pad_channels(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pads the larger of the input and output channels with zeros, to PADDED_CHANNELS.

    The input channels if both are equal.
    """
    missing = PADDED_CHANNELS - max(w.shape[2:])
    pad_in, pad_out = (missing, 0) if w.shape[2] >= w.shape[3] else (0, missing)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, pad_in)))
    return x, jnp.pad(w, ((0, 0), (0, 0), (0, pad_in), (0, pad_out)))


def _forward(x: jax.Array, w: jax.Array, pad: int) -> tuple[jax.Array, Saved]:
    return convolve(x, w, pad), (x, w)


def _backward(pad: int, saved: Saved, dy: jax.Array) -> Saved:
    x, w = saved
    if winograd.is_profitable(x, w.shape, pad):
        dw = winograd.weight_gradient(x, dy)
    else:
        few = max(w.shape[2:]) <= FEW_CHANNELS
        size = max(chunk_size(x.shape[1]), FEW_CHANNELS_CHUNK if few else 0)
        gradient = functools.partial(_correlate, pad=pad)
        dw = sum_chunks(gradient, x, dy, size).astype(x.dtype)
    return _input_gradient(x, w, dy, pad), dw


def _input_gradient(x: jax.Array, w: jax.Array, dy: jax.Array, pad: int) -> jax.Array:
    """Gradient of x [n, h, w, c]: dy convolved with the flipped kernel [k, k, d, c].

    Flipping a kernel of many channels takes as long as multiplying few pixels by it.
    For images of at most SMALL_SIDE pixels a side, therefore, dy is multiplied by the
    kernel as it is, and the contributions to neighbouring pixels are added up.
    """
    is_small = x.shape[1] <= SMALL_SIDE and len(w) == 2 * pad + 1
    if is_small and not winograd.is_profitable(x, w.shape, pad):
        return prevent_inplace(_input_gradient_by_matmul(dy, w, pad))
    flipped = w[::-1, ::-1].transpose(0, 1, 3, 2)
    return convolve(dy, flipped, len(w) - 1 - pad)


def _input_gradient_by_matmul(dy: jax.Array, w: jax.Array, pad: int) -> jax.Array:
    """dy [n, h, w, d], w [2 pad + 1, 2 pad + 1, c, d] -> [n, h, w, c].

    One matrix product gives the contribution of each pixel of dy to each pixel under
    the kernel; the sum of the shifted contributions is the gradient.
    """
    k, channels, d = len(w), *w.shape[2:]
    parts = dy.reshape(-1, d) @ w.reshape(-1, d).T
    parts = parts.reshape(*dy.shape[:3], k * k, channels)
    shifts = [(at // k - pad, at % k - pad) for at in range(k * k)]
    edges = [[(0, 0, 0), (i, -i, 0), (j, -j, 0), (0, 0, 0)] for i, j in shifts]
    zero = jnp.zeros((), dy.dtype)
    terms = [lax.pad(parts[:, :, :, at], zero, edge) for at, edge in enumerate(edges)]
    return functools.reduce(jnp.add, terms)


def _correlate(x: jax.Array, dy: jax.Array, pad: int) -> jax.Array:
    """x [n, h, h, c], dy [n, h', h', d] -> [k, k, c, d]: weight gradient of one chunk.

    A convolution with examples as channels. Either array can be its kernel; the one
    with more channels is, so that the convolution has more output channels.
    """
    as_images, as_kernel = (3, 1, 2, 0), (1, 2, 0, 3)
    if x.shape[-1] <= dy.shape[-1]:
        dw = convolve(x.transpose(as_images), dy.transpose(as_kernel), pad)
        return dw.transpose(1, 2, 0, 3)
    pad += x.shape[1] - dy.shape[1]
    dw = convolve(dy.transpose(as_images), x.transpose(as_kernel), pad)
    return dw[:, ::-1, ::-1].transpose(1, 2, 3, 0)


convolve.defvjp(_forward, _backward)


def conv_general_dilated(dtype: Any) -> Callable[..., jax.Array] | None:
    """The argument of this name of an `nn.Conv` with stride 1 and "SAME" padding.

    On CPUs a convolution of float32 arrays [n, h, h, c]. If dtype is bfloat16, only its
    operands are rounded; products and sums stay float32. On other backends None, which
    selects XLA's own convolution.
    """
    if not on_cpu():
        return None
    return _convolve_float32 if dtype == jnp.float32 else _convolve_bfloat16


def _convolve_float32(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    return convolve(x, kernel, (len(kernel) - 1) // 2)


def _convolve_bfloat16(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> Any:
    if has_fast_bfloat16():
        return prevent_inplace(bfloat16.convolve(x, kernel))
    return _convolve_float32(*(lax.reduce_precision(a, 8, 7) for a in (x, kernel)))
