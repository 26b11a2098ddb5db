"""A space of fixed filters: grain, sharpness and regular patterns, nothing learnt.

Networks overlook what their training did not need, and fine texture is where generated
images give themselves away. Here an image is what wavelets find in it, first and second
order, as in a scattering transform (Bruna & Mallat 2013, "Invariant scattering
convolution networks", section 2), read at the image's own resolution.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cxr_gan.metrics.chunks import CHUNK, check_images, over_chunks

SCALES = 4  # octaves; each halves the image
ANGLES = 4  # orientations of a wavelet, 45 degrees apart
WIDTH = 7  # pixels, side of a filter
FREQUENCY = 3 * np.pi / 4  # radians per pixel: between the image's finest and half that
SPREAD = 0.8  # pixels, deviation of the envelope along the wave
LENGTH = 1.2  # pixels, and across it
FLOOR = 0.01  # grey levels added to each modulus: a blank image has no logarithm
LEAST_SHARE = 0.001  # added to each second-order share, for the same reason
LEAST = 32  # px, the smallest image whose coarsest scale still holds a filter
PIXELS_AT_ONCE = 2**16  # of a chunk: 16 images of 64 px, 1 of 256 px

PAIRS = SCALES * (SCALES - 1) // 2
DIMENSION = SCALES * ANGLES + SCALES + PAIRS * ANGLES + 3


def features(images: np.ndarray) -> np.ndarray:
    """The texture of images: uint8 [n, s, s, 1] -> float32 [n, 47].

    All are natural logarithms, so differences are ratios. In order:
        16: the mean modulus, in grey levels, of wavelets of 4 scales (periods of about
            2.7, 6, 12 and 24 pixels) and 4 orientations each;
        4: at each scale, root mean square over mean of the modulus: how patchy it is;
        24: for each pair of scales, the finer first, and each of 4 angles between them:
            the mean modulus of wavelets of the coarser on that of the finer, over the
            mean of the finer (second order; averaged over orientations of the finer);
        3: the mean modulus of what alternates from pixel to pixel: in both directions
            (a checkerboard), from row to row, and from column to column.

    Images are read at their own resolution, of which a pixel is the unit: figures of
    different resolutions do not compare.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], there are none, or s
            is less than 32.
    """
    check_images(images)
    size = images.shape[1]
    if size < LEAST:
        raise ValueError(
            f"images have {size} px; texture at {SCALES} scales needs {LEAST} or more"
        )
    return over_chunks(_features, images, max(1, min(CHUNK, PIXELS_AT_ONCE // size**2)))


@jax.jit
def _features(images: jax.Array) -> jax.Array:
    image = images.astype(jnp.float32)
    moduli = []
    level = image
    for _ in range(SCALES):
        moduli.append(_moduli(level))
        level = _halve(level)
    first = [jnp.log(u.mean((1, 2)) + FLOOR) for u in moduli]
    patchy = [_log_rms(u) - mean.mean(1) for u, mean in zip(moduli, first, strict=True)]
    second = []
    for fine in range(SCALES - 1):
        on = moduli[fine]
        for _ in range(fine + 1, SCALES):
            on = _halve(on)
            second.append(_second(on))
    return jnp.concatenate(
        [*first, jnp.stack(patchy, 1), *second, _alternating(image)], 1
    )


def _moduli(x: jax.Array) -> jax.Array:
    """[n, h, w, 1] -> [n, h, w, 4], one of each orientation; edges are mirrored."""
    margin = (WIDTH // 2, WIDTH // 2)
    wide = jnp.pad(x, ((0, 0), margin, margin, (0, 0)), mode="reflect")
    both = lax.conv_general_dilated(
        wide,
        jnp.asarray(_wavelets()),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    real, imaginary = jnp.split(both, 2, -1)
    return jnp.sqrt(real**2 + imaginary**2)


@functools.cache
def _wavelets() -> np.ndarray:
    """Morlet: float32 [7, 7, 1, 8], real parts of 4 orientations, then imaginary ones.

    Blind to a constant; the envelope sums to 1, so a wave of its frequency and of
    amplitude a gives a modulus of about a / 2.
    """
    y, x = np.mgrid[:WIDTH, :WIDTH] - WIDTH // 2
    waves = []
    for angle in np.arange(ANGLES) * np.pi / ANGLES:
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        envelope = np.exp(-0.5 * ((along / SPREAD) ** 2 + (across / LENGTH) ** 2))
        envelope /= envelope.sum()
        wave = np.exp(1j * FREQUENCY * along)
        waves.append(envelope * (wave - (envelope * wave).sum()))
    stack = np.stack(waves, -1)[:, :, None]
    return np.concatenate([stack.real, stack.imag], -1).astype(np.float32)


def _halve(x: jax.Array) -> jax.Array:
    """[n, h, w, c] -> [n, h // 2, w // 2, c], by the binomial (1, 3, 3, 1) / 8."""
    for axis in (1, 2):
        x = jnp.moveaxis(x, axis, 0)
        n = len(x) // 2
        wide = jnp.concatenate([x[:1], x, x[-1:]])
        taps = [wide[at : at + 2 * n : 2] for at in range(4)]
        x = (taps[0] + 3 * taps[1] + 3 * taps[2] + taps[3]) / 8
        x = jnp.moveaxis(x, 0, axis)
    return x


def _log_rms(u: jax.Array) -> jax.Array:
    """[n, h, w, 4] -> [n]: log of the root mean square, orientations averaged."""
    return jnp.log(jnp.sqrt((u**2).mean((1, 2))) + FLOOR).mean(1)


def _second(u: jax.Array) -> jax.Array:
    """Moduli [n, h, w, 4] -> log of the mean of their own over theirs, [n, 4]."""
    n, height, width, angles = u.shape
    maps = u.transpose(0, 3, 1, 2).reshape(n * angles, height, width, 1)
    share = _moduli(maps).mean((1, 2)) / (maps.mean((1, 2)) + FLOOR)
    share = share.reshape(n, angles, angles)
    turned = [
        jnp.stack([share[:, at, (at + turn) % angles] for at in range(angles)]).mean(0)
        for turn in range(angles)
    ]
    return jnp.log(jnp.stack(turned, 1) + LEAST_SHARE)


def _alternating(x: jax.Array) -> jax.Array:
    """Log mean moduli of (1, -1) in both directions, in rows, in columns: [n, 3]."""
    rows, columns = jnp.array([0.5, -0.5]), jnp.array([0.5, 0.5])
    a, b = x[:, :-1, :, 0], x[:, 1:, :, 0]
    down = rows[0] * a + rows[1] * b  # differs from row to row
    level = columns[0] * a + columns[1] * b
    both = (down[:, :, :-1] - down[:, :, 1:]) / 2
    in_rows = (down[:, :, :-1] + down[:, :, 1:]) / 2
    in_columns = (level[:, :, :-1] - level[:, :, 1:]) / 2
    means = [jnp.abs(m).mean((1, 2)) for m in (both, in_rows, in_columns)]
    return jnp.log(jnp.stack(means, 1) + FLOOR)
