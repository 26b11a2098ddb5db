"""Feature space of fixed wavelet filters: noise, sharpness and regular patterns.

Trained networks ignore what their training did not need, and fine texture is where
generated images differ most visibly from real ones. These features are the first- and
second-order coefficients of a scattering transform (Bruna & Mallat 2013, "Invariant
scattering convolution networks", section 2), at the image's own resolution. Nothing is
trained.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cxr_gan.evaluation.metrics.batching import BATCH, check_images, map_batches

SCALES = 4  # octaves; each halves the image
ANGLES = 4  # orientations of a wavelet, 45 degrees apart
WIDTH = 7  # px, side length of a filter
FREQUENCY = 3 * np.pi / 4  # radians/pixel: between the Nyquist frequency and half of it
SIGMA_ALONG = 0.8  # px, of the Gaussian envelope in the direction of the wave
SIGMA_ACROSS = 1.2  # px, perpendicular to it
MODULUS_OFFSET = 0.01  # grey levels; keeps the logarithm finite for constant images
SECOND_ORDER_OFFSET = 0.001  # the same for second-order ratios
MIN_SIZE = 32  # px; 4 at the coarsest scale, the fewest that can be reflected by 3
PIXELS_PER_BATCH = 2**16  # 16 images of 64 px, 1 of 256 px


def features(images: np.ndarray) -> np.ndarray:
    """Texture features of images: uint8 [n, s, s, 1] -> float32 [n, 47].

    All are natural logarithms, so differences are log ratios. In order:
        16: mean modulus, in grey levels, of wavelets of 4 scales (periods of about 2.7,
            6, 12 and 24 pixels) with 4 orientations each;
        4: for each scale, root mean square of the modulus over its mean: how unevenly
            texture is distributed over the image;
        24: for each pair of scales, finer first, and each of 4 angles between them:
            mean modulus of the coarser wavelets applied to the modulus of the finer
            ones, over the mean of the latter (second order; averaged over orientations
            of the finer wavelet);
        3: mean modulus of patterns that alternate from pixel to pixel: in both
            directions (a checkerboard), from row to row, from column to column.

    The unit of length is a pixel: features of different resolutions are not comparable.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], n is 0, or s is below
            32.
    """
    check_images(images, min_size=MIN_SIZE)
    batch_size = max(1, min(BATCH, PIXELS_PER_BATCH // images.shape[1] ** 2))
    return map_batches(_features, images, batch_size)


@jax.jit
def _features(images: jax.Array) -> jax.Array:
    image = images.astype(jnp.float32)
    levels = [image]
    for _ in range(SCALES - 1):
        levels.append(_halve(levels[-1]))
    moduli = [_moduli(level) for level in levels]
    first_order = [jnp.log(u.mean((1, 2)) + MODULUS_OFFSET) for u in moduli]
    unevenness = [
        _log_rms(u) - log_mean.mean(1)
        for u, log_mean in zip(moduli, first_order, strict=True)
    ]
    second_order = []
    for fine, u in enumerate(moduli):
        for _ in range(fine + 1, SCALES):
            u = _halve(u)
            second_order.append(_second_order(u))
    uneven = jnp.stack(unevenness, 1)
    return jnp.concatenate(
        [*first_order, uneven, *second_order, _alternating(image)], 1
    )


def _moduli(x: jax.Array) -> jax.Array:
    """Wavelet moduli by orientation: [n, h, w, 1] -> [n, h, w, 4].

    Borders are reflected.
    """
    margin = (WIDTH // 2, WIDTH // 2)
    padded = jnp.pad(x, ((0, 0), margin, margin, (0, 0)), mode="reflect")
    both = lax.conv_general_dilated(
        padded,
        jnp.asarray(_wavelets()),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    real, imaginary = jnp.split(both, 2, -1)
    return jnp.sqrt(real**2 + imaginary**2)


@functools.cache
def _wavelets() -> np.ndarray:
    """Morlet wavelets: float32 [7, 7, 1, 8], 4 real parts, then 4 imaginary parts.

    Their sum is 0, so they do not respond to a constant. The envelope sums to 1: a wave
    of the wavelet's frequency and of amplitude a has a modulus of about a / 2.
    """
    y, x = np.mgrid[:WIDTH, :WIDTH] - WIDTH // 2
    wavelets = []
    for angle in np.arange(ANGLES) * np.pi / ANGLES:
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        envelope = np.exp(
            -0.5 * ((along / SIGMA_ALONG) ** 2 + (across / SIGMA_ACROSS) ** 2)
        )
        envelope /= envelope.sum()
        wave = np.exp(1j * FREQUENCY * along)
        wavelets.append(envelope * (wave - (envelope * wave).sum()))
    stack = np.stack(wavelets, -1)[:, :, None]
    return np.concatenate([stack.real, stack.imag], -1).astype(np.float32)


def _halve(x: jax.Array) -> jax.Array:
    """[n, h, w, c] -> [n, h // 2, w // 2, c], by the binomial (1, 3, 3, 1) / 8."""
    for axis in (1, 2):
        x = jnp.moveaxis(x, axis, 0)
        end = len(x) // 2 * 2
        padded = jnp.concatenate([x[:1], x, x[-1:]])
        taps = [padded[offset : offset + end : 2] for offset in range(4)]
        x = jnp.moveaxis((taps[0] + 3 * taps[1] + 3 * taps[2] + taps[3]) / 8, 0, axis)
    return x


def _log_rms(u: jax.Array) -> jax.Array:
    """[n, h, w, 4] -> [n]: log of the root mean square, averaged over orientations."""
    return jnp.log(jnp.sqrt((u**2).mean((1, 2))) + MODULUS_OFFSET).mean(1)


def _second_order(u: jax.Array) -> jax.Array:
    """Log mean moduli of moduli, relative to their mean: [n, h, w, 4] -> [n, 4].

    Indexed by the angle between both wavelets.
    """
    n, height, width, angles = u.shape
    maps = u.transpose(0, 3, 1, 2).reshape(n * angles, height, width, 1)
    ratio = _moduli(maps).mean((1, 2)) / (maps.mean((1, 2)) + MODULUS_OFFSET)
    ratio = ratio.reshape(n, angles, angles)
    by_turn = [
        sum(ratio[:, fine, (fine + turn) % angles] for fine in range(angles)) / angles
        for turn in range(angles)
    ]
    return jnp.log(jnp.stack(by_turn, 1) + SECOND_ORDER_OFFSET)


def _alternating(x: jax.Array) -> jax.Array:
    """Log mean moduli of patterns of period 2 pixels: [n, h, w, 1] -> [n, 3].

    Alternating in both directions, from row to row, and from column to column.
    """
    upper, lower = x[:, :-1, :, 0], x[:, 1:, :, 0]
    difference, average = (upper - lower) / 2, (upper + lower) / 2
    both = (difference[:, :, :-1] - difference[:, :, 1:]) / 2
    rows = (difference[:, :, :-1] + difference[:, :, 1:]) / 2
    columns = (average[:, :, :-1] - average[:, :, 1:]) / 2
    means = [jnp.abs(m).mean((1, 2)) for m in (both, rows, columns)]
    return jnp.log(jnp.stack(means, 1) + MODULUS_OFFSET)
