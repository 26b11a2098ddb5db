"""Winograd's F(4 x 4, 3 x 3): 3 x 3 convolutions with a quarter of the multiplications.

For CPUs on which convolutions are limited by their multiplications. The output is cut
into tiles of 4 x 4 pixels. The kernel and the 6 x 6 input pixels of each tile are read
as polynomials and evaluated at 6 points along each axis. There the convolution is a
product: at each of the 36 points one matrix product, [tiles, c] by [c, d]. A last
transform turns the products into output tiles. All transforms are linear, so the weight
gradient uses their transposes in reverse order, at the same cost.

Images are processed in chunks, and the points along w one after the other in a loop:
the operands stay in the cache of a core, and the loop's body is compiled once.
`convolve` and `weight_gradient` are jitted, so within an outer jit JAX traces each
shape once.

Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section
4.3; for the weight gradient section 4.2, with tiles of 4 x 4.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cxr_gan.models.cpu.layout import (
    chunk_size,
    map_chunks,
    materialize,
    sum_chunks,
)
from cxr_gan.runtime.cpu import simd_level

TILE, KERNEL = 4, 3  # pixels a side


class WinogradThresholds(NamedTuple):
    """Smallest convolution that is worth the time of its transforms and compilation.

    With fewer tiles, as in one image of 8 pixels a side, transforming the kernel takes
    longer than the multiplications saved; with fewer channels, transforming the image.
    """

    channels: int  # input channels, and output channels
    tiles: int  # of all images together
    products: int  # multiplications of one image for one pixel of the kernel


# Measured: reports 2026-11-performance-avx2 and 2026-11-performance.
THRESHOLDS = {
    "avx2": WinogradThresholds(32, 8, 0),
    "avx512": WinogradThresholds(64, 64, 2**21),
}
# Finite evaluation points; infinity is the sixth. With the usual 0, 1, -1, 2, -2 the
# error of images is three times as large: 3e-5 of their standard deviation at worst
# instead of 1e-5.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """1-D transforms: of the input [6, 6], of the kernel [6, 3], of the output [4, 6].

    Source: Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd
    Convolution for Deep Neural Networks", section 2 (Toom-Cook, with a point at
    infinity).
    """
    others = [[q for q in POINTS if q != p] for p in POINTS]
    image = np.zeros((6, 6))
    image[:5, :5] = [np.poly(rest)[::-1] for rest in others]
    image[5] = np.poly(POINTS)[::-1]
    scale = [
        np.prod([p - q for q in rest]) for p, rest in zip(POINTS, others, strict=True)
    ]
    infinity = np.eye(6)[5:]
    kernel = np.vander(POINTS, KERNEL, True) / np.array(scale)[:, None]
    tile = np.vander(POINTS, TILE, True)
    return (
        image.round(12),  # removes rounding errors from coefficients that are 0
        np.concatenate([kernel, infinity[:, -KERNEL:]]),
        np.concatenate([tile, infinity[:, -TILE:]]).T,
    )


INPUT_TRANSFORM, KERNEL_TRANSFORM, OUTPUT_TRANSFORM = (
    m.astype(np.float32) for m in _transforms()
)
# [36, 9]: rows are points along w, then along h; columns are pixels of a kernel along
# h, then along w.
KERNEL_TRANSFORM_2D = np.einsum(
    "ph,qw->qphw", KERNEL_TRANSFORM, KERNEL_TRANSFORM
).reshape(36, -1)


def is_profitable(x: jax.Array, kernel: tuple[int, ...], pad: int) -> bool:
    """Whether to use tiles for x [n, h, w, c] and a kernel of shape [k, k, c, d]."""
    if simd_level() not in THRESHOLDS:
        return False
    least, (n, h, w, _) = THRESHOLDS[simd_level()], x.shape
    fits = h == w and h % TILE == 0 and (kernel[0], pad) == (KERNEL, 1)
    many = min(kernel[2:]) >= least.channels and n * h * w >= least.tiles * TILE**2
    enough = h * w * kernel[2] * kernel[3] >= least.products
    return fits and many and enough and x.dtype == jnp.float32


@jax.jit
def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    """x float32 [n, h, h, c], w [3, 3, c, d] -> [n, h, h, d], with zero padding.

    h must be a multiple of 4.
    """
    kernel = _transform_kernel(w)
    return map_chunks(lambda x: _convolve_chunk(x, kernel), x, chunk_size(x.shape[1]))


def _convolve_chunk(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [n, h, h, c], transformed kernel [6, 6, c, d] -> [n, h, h, d]."""
    n, side = x.shape[:2]
    tiles = side // TILE  # along each axis
    rows = _transform_h(_pad(x), INPUT_TRANSFORM)

    def multiply_at_point(point: tuple[jax.Array, jax.Array]) -> jax.Array:
        weights, kernel = point
        products = jnp.einsum("pic,pcd->pid", _transform_w(rows, weights), kernel)
        products = products.reshape(6, n, tiles, tiles, -1)
        return _weighted_sums(OUTPUT_TRANSFORM, products, 2)  # [n, tiles, 4, tiles, d]

    columns = lax.map(multiply_at_point, (jnp.asarray(INPUT_TRANSFORM), kernel))
    return _weighted_sums(OUTPUT_TRANSFORM, columns, 4).reshape(n, side, side, -1)


@jax.jit
def weight_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """x float32 [n, h, h, c], dy [n, h, h, d] -> gradient of w, [3, 3, c, d]."""
    n, size = len(x), chunk_size(x.shape[1])
    size = n if n <= 2 * size else size  # a loop over two chunks is slower than none
    return _to_kernel_gradient(sum_chunks(_weight_gradient_of_chunk, x, dy, size))


def _weight_gradient_of_chunk(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of the transformed kernel, [6, 6, c, d]."""
    rows = _transform_h(_pad(x), INPUT_TRANSFORM)
    dy_rows = _transform_h(dy, OUTPUT_TRANSFORM.T)

    def multiply_at_point(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        image, gradient = (
            _transform_w(rows, weights[0]),
            _transform_w(dy_rows, weights[1]),
        )
        return jnp.einsum("pic,pid->pcd", image, gradient)

    weights = jnp.asarray(INPUT_TRANSFORM), jnp.asarray(OUTPUT_TRANSFORM.T)
    return lax.map(multiply_at_point, weights)


def _pad(x: jax.Array) -> jax.Array:
    """[n, h, h, c] -> [n, h + 2, h + 2, c], padded with zeros."""
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _pixels_of_tiles(x: jax.Array, axis: int, pixels: int) -> list[jax.Array]:
    """Along an axis, the first pixel of every tile, the second of every tile, etc."""
    span = x.shape[axis] - pixels + 1
    return [lax.slice_in_dim(x, i, i + span, TILE, axis=axis) for i in range(pixels)]


def _transform_h(x: jax.Array, transform: np.ndarray) -> jax.Array:
    """[n, h, w, c] -> [6, n, tiles, w, c]: columns of each tile, at all 6 points."""
    parts = _pixels_of_tiles(materialize(x), 1, transform.shape[1])
    return materialize(_weighted_sums(transform, parts, 0))


def _transform_w(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[6, n, tiles, w, c] -> [6, n tiles tiles, c]: rows of each tile, at 1 point."""
    parts = _pixels_of_tiles(rows, 3, len(weights))
    total = functools.reduce(jnp.add, map(jnp.multiply, weights, parts))
    return materialize(total).reshape(6, -1, rows.shape[-1])


def _transform_kernel(w: jax.Array) -> jax.Array:
    """[3, 3, c, d] -> [6, 6, c, d]: the kernel at all 36 points."""
    return (KERNEL_TRANSFORM_2D @ w.reshape(KERNEL**2, -1)).reshape(6, 6, *w.shape[2:])


def _to_kernel_gradient(gradients: jax.Array) -> jax.Array:
    """[6, 6, c, d] -> [3, 3, c, d]: transpose of `_transform_kernel`."""
    c, d = gradients.shape[2:]
    dw = KERNEL_TRANSFORM_2D.T @ gradients.reshape(36, -1)
    return dw.reshape(KERNEL, KERNEL, c, d)


def _weighted_sums(
    weights: np.ndarray, parts: Sequence[jax.Array] | jax.Array, axis: int
) -> jax.Array:
    """m weighted sums of k arrays along a new axis; weights [m, k].

    All m sums are one sum of broadcast products, zero weights included: a stack of m
    separate sums takes twice as long to compile.
    """
    ones = np.ones(parts[0].ndim - axis, int)
    columns = weights.T.reshape(len(parts), -1, *ones)
    terms = [a * jnp.expand_dims(x, axis) for a, x in zip(columns, parts, strict=True)]
    return functools.reduce(jnp.add, terms)
