"""One convolution whose gradients are convolutions of the same canonical kind."""

import functools
from typing import Any

import jax
from flax import linen as nn
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")
Saved = tuple[jax.Array, jax.Array]  # x and w, or their gradients


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, w: jax.Array, pad: int) -> jax.Array:
    """x [n, h, w, c], w [k, k, c, d] -> [n, h + 2 pad + 1 - k, w + 2 pad + 1 - k, d].

    XLA:CPU multiplies at full speed only where a convolution reads NHWC and HWIO, and
    inside a loop or a branch it mends no other: there its own weight gradients run
    dozens of times slower. So both gradients are spelt as calls of this very function,
    which keeps second derivatives (the R1 penalty) canonical as well; those of the
    weights need h = w.
    """
    return lax.conv_general_dilated(
        x, w, (1, 1), [(pad, pad), (pad, pad)], dimension_numbers=LAYOUT
    )


def _forward(x: jax.Array, w: jax.Array, pad: int) -> tuple[jax.Array, Saved]:
    return convolve(x, w, pad), (x, w)


def _backward(pad: int, saved: Saved, dy: jax.Array) -> Saved:
    x, w = saved
    mirrored = w[::-1, ::-1].transpose(0, 1, 3, 2)
    dx = convolve(dy, mirrored, w.shape[0] - 1 - pad)
    dw = convolve(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), pad)
    return dx, dw.transpose(1, 2, 0, 3)


convolve.defvjp(_forward, _backward)


def _same(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """What `nn.Conv` calls: stride 1 and equal sizes in and out are ours alone."""
    return convolve(x, kernel, (kernel.shape[0] - 1) // 2)


class Conv3x3(nn.Module):
    """A 3 x 3 convolution with bias, as large as its input, zeros around."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h, w, features]."""
        canonical = _same if jax.default_backend() == "cpu" else None
        return nn.Conv(
            self.features,
            (3, 3),
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=canonical,
            name="conv",
        )(x)
