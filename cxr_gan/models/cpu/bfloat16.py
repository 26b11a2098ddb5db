"""3 x 3 convolutions as bfloat16 matrix products, for CPUs with AMX instructions.

Images and weights are rounded to bfloat16 and multiplied, and the products are summed
in float32, as on TPUs; arrays stay float32. XLA:CPU uses these instructions for the
product of two bfloat16 matrices, but not for convolutions. So a convolution is written
as a product: pixels with their left and right neighbours, [pixels, 3c], times [3c, 3d]
give one result per row of the kernel, and the results of the pixel above, the pixel
itself and the pixel below are added. The weight gradient is another product,
[3c, pixels] times [pixels, 3d].

Rounded arrays are moved as uint16, because XLA:CPU converts bfloat16 arrays to float32
and back wherever it moves them.
"""

import jax
import jax.numpy as jnp
from jax import lax

from cxr_gan.models.cpu.layout import map_chunks, materialize, sum_chunks

CHUNK_ELEMENTS = 2**15  # elements of a chunk of images; it fits the cache of a core
Pair = tuple[jax.Array, jax.Array]


@jax.custom_vjp
def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    """x float32 [n, h, h, c], w [3, 3, c, d] -> [n, h, h, d], with zero padding."""
    return _convolve(x, w)


@jax.custom_vjp
def weight_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """x float32 [n, h, h, c], dy [n, h, h, d] -> gradient of w, [3, 3, c, d]."""
    return _weight_gradient(x, dy)


def _convolve_forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, Pair]:
    return convolve(x, w), (x, w)


def _convolve_backward(saved: Pair, dy: jax.Array) -> Pair:
    x, w = saved
    return convolve(dy, _flip_kernel(w)), weight_gradient(x, dy)


def _weight_gradient_forward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array, Pair]:
    return weight_gradient(x, dy), (x, dy)


def _weight_gradient_backward(saved: Pair, dw: jax.Array) -> Pair:
    x, dy = saved
    return convolve(dy, _flip_kernel(dw)), convolve(x, dw)


convolve.defvjp(_convolve_forward, _convolve_backward)
weight_gradient.defvjp(_weight_gradient_forward, _weight_gradient_backward)


def _flip_kernel(w: jax.Array) -> jax.Array:
    """[3, 3, c, d] -> [3, 3, d, c]: the kernel of the input gradient."""
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


@jax.jit
def _convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    top, middle, bottom = _to_bits(w).reshape(3, -1, w.shape[3])
    kernel = jnp.concatenate([top, middle, bottom], -1)

    def convolve_chunk(x: jax.Array) -> jax.Array:
        y = _matmul(_with_left_and_right(x), kernel).reshape(*x.shape[:3], -1)
        above, here, below = jnp.split(y, 3, -1)
        return here + _pad_rows(above[:, :-1], 1, 0) + _pad_rows(below[:, 1:], 0, 1)

    return map_chunks(convolve_chunk, _to_bits(x), _chunk_size(x, w))


@jax.jit
def _weight_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    c, d = x.shape[3], dy.shape[3]
    size = _chunk_size(x, dy)
    dw = sum_chunks(_weight_gradient_of_chunk, _to_bits(x), _to_bits(dy), size)
    return dw.reshape(c, 3, 3, d)[:, :, ::-1].transpose(1, 2, 0, 3)


def _weight_gradient_of_chunk(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Bits of x [n, h, w, c] and dy [n, h, w, d] -> gradient, float32 [3c, 3d].

    The first axis is ordered by c, then by kernel row; the second by kernel column from
    right to left, then by d.
    """
    n, h, w, c = x.shape
    images = x.reshape(n, h * w, c).transpose(0, 2, 1)

    def shifted_for(kernel_row: int) -> list[jax.Array]:
        padding = (2 - kernel_row, kernel_row)
        above, below = (jnp.zeros((c, k * w), x.dtype) for k in padding)
        return [part for image in images for part in (above, image, below)]

    rows = jnp.concatenate([*shifted_for(0), *shifted_for(1), *shifted_for(2)], -1)
    return _matmul(rows.reshape(3 * c, -1), _with_left_and_right(_pad_rows(dy, 1, 1)))


def _chunk_size(x: jax.Array, w: jax.Array) -> int:
    """How many images of x [n, h, h, c] to process at once, for w [.., .., .., d].

    Their intermediate arrays then stay in the cache of a core.
    """
    return max(1, CHUNK_ELEMENTS // (x.shape[1] ** 2 * max(x.shape[3], w.shape[3])))


def _to_bits(x: jax.Array) -> jax.Array:
    """float32 -> the nearest bfloat16, as its bits in uint16."""
    return lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def _pad_rows(x: jax.Array, above: int, below: int) -> jax.Array:
    """[n, h, w, c] -> [n, above + h + below, w, c], padded with zeros."""
    return jnp.pad(x, ((0, 0), (above, below), (0, 0), (0, 0)))


def _with_left_and_right(x: jax.Array) -> jax.Array:
    """[n, h, w, c] -> [n h w, 3c]: pixels left, here and right, with zero padding."""
    c, w = x.shape[3], x.shape[2]
    x = materialize(jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0))))
    pixels = jnp.concatenate([x[:, :, j : j + w] for j in range(3)], -1)
    return pixels.reshape(-1, 3 * c)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Bits of bfloat16 [m, k] times bits of [k, n] -> float32 [m, n]."""
    a, b = (lax.bitcast_convert_type(bits, jnp.bfloat16) for bits in (a, b))
    return lax.dot(a, b, preferred_element_type=jnp.float32)
