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
    faster, Winograd's algorithm is used.
    """
    if winograd.is_profitable(x, w.shape, pad):
        return prevent_inplace(winograd.convolve(x, w))
    padding = [(pad, pad), (pad, pad)]
    y = lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=LAYOUT)
    return prevent_inplace(y)


def _forward(x: jax.Array, w: jax.Array, pad: int) -> tuple[jax.Array, Saved]:
    return convolve(x, w, pad), (x, w)


def _backward(pad: int, saved: Saved, dy: jax.Array) -> Saved:
    x, w = saved
    if winograd.is_profitable(x, w.shape, pad):
        dw = winograd.weight_gradient(x, dy)
    else:
        gradient = functools.partial(_correlate, pad=pad)
        dw = sum_chunks(gradient, x, dy, chunk_size(x.shape[1])).astype(x.dtype)
    flipped = w[::-1, ::-1].transpose(0, 1, 3, 2)
    return convolve(dy, flipped, len(w) - 1 - pad), dw


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
