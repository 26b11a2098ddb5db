"""3 x 3 convolutions by products of bfloat16, for CPUs with instructions for these.

Images and weights are rounded to bfloat16, multiplied, and summed in float32, as TPUs
do; arrays stay float32. XLA:CPU hands a product of two matrices of bfloat16 to those
instructions, but no convolution. So one is written as a product: pixels, each with its
neighbours left and right, [pixels, 3c], by [3c, 3d] give an answer for each row of the
kernel, and three answers, of the pixels above, here and below, are added up. Weights
learn by another: [3c, pixels] by [pixels, 3d].

What is rounded is moved about as uint16. Arrays of bfloat16 XLA:CPU would make float32
and back wherever it moves them.
"""

import jax
import jax.numpy as jnp
from jax import lax

from cxr_gan.models.backend import map_chunks, sum_chunks, written

NUMBERS = 2**15  # of images that are multiplied together, in a core's cache
Pair = tuple[jax.Array, jax.Array]


@jax.custom_vjp
def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    """x float32 [n, h, h, c], w [3, 3, c, d] -> [n, h, h, d], zeros around."""
    return _convolve(x, w)


@jax.custom_vjp
def of_weights(x: jax.Array, dy: jax.Array) -> jax.Array:
    """x float32 [n, h, h, c], dy [n, h, h, d] -> [3, 3, c, d]: the slope of w."""
    return _of_weights(x, dy)


def _convolve_forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, Pair]:
    return convolve(x, w), (x, w)


def _convolve_backward(saved: Pair, dy: jax.Array) -> Pair:
    x, w = saved
    return convolve(dy, _mirrored(w)), of_weights(x, dy)


def _of_weights_forward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array, Pair]:
    return of_weights(x, dy), (x, dy)


def _of_weights_backward(saved: Pair, dw: jax.Array) -> Pair:
    x, dy = saved
    return convolve(dy, _mirrored(dw)), convolve(x, dw)


convolve.defvjp(_convolve_forward, _convolve_backward)
of_weights.defvjp(_of_weights_forward, _of_weights_backward)


def _mirrored(w: jax.Array) -> jax.Array:
    """[3, 3, c, d] -> [3, 3, d, c]: the kernel of the way back."""
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


@jax.jit
def _convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    top, middle, bottom = _rounded(w).reshape(3, -1, w.shape[3])
    kernel = jnp.concatenate([top, middle, bottom], -1)

    def answer(x: jax.Array) -> jax.Array:
        answers = _product(_beside(x), kernel).reshape(*x.shape[:3], -1)
        above, here, below = jnp.split(answers, 3, -1)
        return here + _with_zeros(above[:, :-1], 1, 0) + _with_zeros(below[:, 1:], 0, 1)

    return map_chunks(answer, _rounded(x), _together(x, w))


@jax.jit
def _of_weights(x: jax.Array, dy: jax.Array) -> jax.Array:
    c, d = x.shape[3], dy.shape[3]
    slopes = sum_chunks(_learn, _rounded(x), _rounded(dy), _together(x, dy))
    return slopes.reshape(c, 3, 3, d)[:, :, ::-1].transpose(1, 2, 0, 3)


def _learn(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Bits [n, h, w, c] and [n, h, w, d] -> the slope, float32 [3c, 3d].

    By c, then the kernel's rows; and by its columns, from right to left, then d.
    """
    n, h, w, c = x.shape
    images = x.reshape(n, h * w, c).transpose(0, 2, 1)

    def seen_by(row: int) -> list[jax.Array]:
        above, below = (jnp.zeros((c, k * w), x.dtype) for k in (2 - row, row))
        return [part for image in images for part in (above, image, below)]

    rows = jnp.concatenate([*seen_by(0), *seen_by(1), *seen_by(2)], -1)
    return _product(rows.reshape(3 * c, -1), _beside(_with_zeros(dy, 1, 1)))


def _together(x: jax.Array, w: jax.Array) -> int:
    """How many images x [n, h, h, c] are best worked on at once, for w [.., .., .., d].

    What they are made into on the way then stays in a core's cache.
    """
    return max(1, NUMBERS // (x.shape[1] ** 2 * max(x.shape[3], w.shape[3])))


def _rounded(x: jax.Array) -> jax.Array:
    """float32 -> the nearest of bfloat16, as bits in uint16."""
    return lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def _with_zeros(x: jax.Array, above: int, below: int) -> jax.Array:
    """[n, h, w, c] with so many rows of zeros more."""
    return jnp.pad(x, ((0, 0), (above, below), (0, 0), (0, 0)))


def _beside(x: jax.Array) -> jax.Array:
    """[n, h, w, c] -> [n h w, 3c]: pixels left, here and right; zeros around."""
    c, w = x.shape[3], x.shape[2]
    x = written(jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0))))
    pixels = jnp.concatenate([x[:, :, j : j + w] for j in range(3)], -1)
    return pixels.reshape(-1, 3 * c)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Bits of bfloat16 [m, k] by [k, n] -> float32 [m, n]."""
    a, b = (lax.bitcast_convert_type(bits, jnp.bfloat16) for bits in (a, b))
    return lax.dot(a, b, preferred_element_type=jnp.float32)
