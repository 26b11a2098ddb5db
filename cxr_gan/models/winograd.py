"""3 x 3 convolutions with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3).

For CPUs, where a convolution waits for multiplications and little else. An image is cut
into tiles of 4 x 4 pixels. The 6 x 6 pixels a tile is made of, and the kernel, are read
as polynomials and evaluated at 6 points along each axis; there a convolution is a
product, for each of the 36 points one of matrices, [tiles, c] by [c, d]; and from the
products the tiles are put together again. All that is linear, so the slope of the
weights is the same way walked backwards, and costs as little.

Images are taken a few at a time, and the points along w one after the other, in loops:
what is multiplied stays in a core's cache, and a loop's body is compiled once. Within
jit, JAX traces each shape once.

Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section
4.3; of the slope of the weights, section 4.2, with tiles of 4 x 4.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cxr_gan.models.backend import (
    at_once,
    learn_at_once,
    map_chunks,
    sum_chunks,
    vectors,
    written,
)

TILE, KERNEL = 4, 3  # pixels a side


class Least(NamedTuple):
    """From where on a convolution pays for what it costs to transform, and to compile.

    For fewer tiles, as of one image of 8 pixels a side, to transform the kernel takes
    longer; for fewer channels, to transform the image.
    """

    channels: int  # in, and out
    tiles: int  # of all images
    products: int  # of one image, for one pixel of the kernel


# What was measured: docs/performance_avx2.md and docs/performance.md.
LEAST = {"avx2": Least(32, 8, 0), "avx512": Least(64, 64, 2**21)}
# Where polynomials are evaluated, infinity beside them. The usual 0, 1, -1, 2, -2 give
# images three times as far off: 3e-5 of their deviation at worst, in place of 1e-5.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a tile's surroundings [6, 6], of a kernel [6, 3], and back to a tile [4, 6].

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
        image.round(12),  # 0 where it is that but for rounding
        np.concatenate([kernel, infinity[:, -KERNEL:]]),
        np.concatenate([tile, infinity[:, -TILE:]]).T,
    )


OF_IMAGE, OF_KERNEL, TO_TILE = (m.astype(np.float32) for m in _transforms())
# [36, 9]: points along w, then along h; pixels of a kernel along h, then along w
OF_KERNEL_2D = np.einsum("ph,qw->qphw", OF_KERNEL, OF_KERNEL).reshape(36, -1)


def pays(x: jax.Array, kernel: tuple[int, ...], pad: int) -> bool:
    """Whether to cut x [n, h, w, c] into tiles, for a kernel of shape [k, k, c, d]."""
    if vectors() not in LEAST:
        return False
    least, (n, h, w, _) = LEAST[vectors()], x.shape
    fits = h == w and h % TILE == 0 and (kernel[0], pad) == (KERNEL, 1)
    many = min(kernel[2:]) >= least.channels and n * h * w >= least.tiles * TILE**2
    enough = h * w * kernel[2] * kernel[3] >= least.products
    return fits and many and enough and x.dtype == jnp.float32


@jax.jit
def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    """x float32 [n, h, h, c], w [3, 3, c, d] -> [n, h, h, d], zeros around.

    h is a multiple of 4.
    """
    kernel = _of_kernel(w)
    return map_chunks(lambda x: _answer(x, kernel), x, at_once(x.shape[1]))


def _answer(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [n, h, h, c], kernel [6, 6, c, d] at the points -> [n, h, h, d]."""
    n, side = x.shape[:2]
    across = side // TILE
    rows = _along_h(_padded(x), OF_IMAGE)

    def answer(at: tuple[jax.Array, jax.Array]) -> jax.Array:
        weights, kernel = at
        products = jnp.einsum("pic,pcd->pid", _along_w(rows, weights), kernel)
        products = products.reshape(6, n, across, across, -1)
        return _mixed(TO_TILE, products, 2)  # [n, across, 4, across, d]

    columns = lax.map(answer, (jnp.asarray(OF_IMAGE), kernel))
    return _mixed(TO_TILE, columns, 4).reshape(n, side, side, -1)


@jax.jit
def of_weights(x: jax.Array, dy: jax.Array) -> jax.Array:
    """x float32 [n, h, h, c], dy [n, h, h, d] -> [3, 3, c, d]: the slope of w."""
    return _to_kernel(sum_chunks(_learn, x, dy, learn_at_once(*x.shape[:2])))


def _learn(x: jax.Array, dy: jax.Array) -> jax.Array:
    """The slope at the points, [6, 6, c, d]."""
    rows, slopes = _along_h(_padded(x), OF_IMAGE), _along_h(dy, TO_TILE.T)

    def learn(at: tuple[jax.Array, jax.Array]) -> jax.Array:
        image, slope = _along_w(rows, at[0]), _along_w(slopes, at[1])
        return jnp.einsum("pic,pid->pcd", image, slope)

    return lax.map(learn, (jnp.asarray(OF_IMAGE), jnp.asarray(TO_TILE.T)))


def _padded(x: jax.Array) -> jax.Array:
    """[n, h, h, c] -> [n, h + 2, h + 2, c], zeros around."""
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _nth_pixels(x: jax.Array, axis: int, pixels: int) -> list[jax.Array]:
    """The first pixels of all tiles along an axis, the second, and so on."""
    reach = x.shape[axis] - pixels + 1
    return [lax.slice_in_dim(x, i, i + reach, TILE, axis=axis) for i in range(pixels)]


def _along_h(x: jax.Array, transform: np.ndarray) -> jax.Array:
    """[n, h, w, c] -> [6, n, tiles, w, c]: the columns of each tile, at all points."""
    parts = _nth_pixels(written(x), 1, transform.shape[1])
    return written(_mixed(transform, parts, 0))


def _along_w(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[6, n, tiles, w, c] -> [6, n tiles tiles, c]: and its rows, at one point."""
    parts = _nth_pixels(rows, 3, len(weights))
    mixed = functools.reduce(jnp.add, map(jnp.multiply, weights, parts))
    return written(mixed).reshape(6, -1, rows.shape[-1])


def _of_kernel(w: jax.Array) -> jax.Array:
    """[3, 3, c, d] -> [6, 6, c, d]: a kernel at the points."""
    return (OF_KERNEL_2D @ w.reshape(KERNEL**2, -1)).reshape(6, 6, *w.shape[2:])


def _to_kernel(slopes: jax.Array) -> jax.Array:
    """[6, 6, c, d] -> [3, 3, c, d]: from slopes at the points to that of a kernel."""
    c, d = slopes.shape[2:]
    return (OF_KERNEL_2D.T @ slopes.reshape(36, -1)).reshape(KERNEL, KERNEL, c, d)


def _mixed(
    weights: np.ndarray, parts: Sequence[jax.Array] | jax.Array, axis: int
) -> jax.Array:
    """weights [m, k], k arrays -> one, with a new axis of m: weighted sums of the k.

    All m as one sum, zeros and all: a stack of m sums takes twice as long to compile.
    """
    ones = np.ones(parts[0].ndim - axis, int)
    columns = weights.T.reshape(len(parts), -1, *ones)
    terms = [a * jnp.expand_dims(x, axis) for a, x in zip(columns, parts, strict=True)]
    return functools.reduce(jnp.add, terms)
