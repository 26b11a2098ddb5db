"""How much detail images hold at each scale, from coarse to fine.

Generators tend to miss or exaggerate the finest scales, which features of a classifier
hardly notice (Durall, Keuper & Keuper 2020, "Watch your up-convolution: CNN based
generative deep neural networks are failing to reproduce spectral distributions").
"""

import numpy as np

# The noise of rounding to uint8, (1/255)^2 / 12 for values from 0 to 1: lower power is
# beyond what an image file holds, and counts as this, so that no logarithm is of 0.
FLOOR = (1 / 255) ** 2 / 12

IMAGES_AT_ONCE = 64


def octave_difference(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """`log_power` of generated images less that of real ones: dB, float64 [bands].

    Lowest octave first, as in `octave_edges`. Positive where generated images have more
    power: +3 is twice as much, -3 half as much. A negative highest octave is blur.

    Args:
        generated: uint8, or float in [0, 1], [n, s, s, 1].
        real: the same, [m, s, s, 1].

    Raises:
        TypeError, ValueError: as `log_power`; the sizes differ.
    """
    if generated.shape[1:] != real.shape[1:]:
        raise ValueError(
            f"images are {list(generated.shape)} and {list(real.shape)}; sizes must be "
            "equal: their octaves in cycles/pixel are not the same detail otherwise"
        )
    return log_power(generated) - log_power(real)


def log_power(images: np.ndarray) -> np.ndarray:
    """Mean power in each octave of spatial frequency: dB, float64 [bands].

    Each image, on a scale from 0 to 1, loses its mean and is faded out to its borders
    by a Hann window in both directions, since its opposite borders do not fit together
    and would pass for detail. Its squared Fourier transform over the sum of the squared
    window is its power: white noise of variance v has power v at every frequency; that
    of a wave spreads by 1 cycle per image. The mean over images is averaged around
    rings of width 1/s cycles/pixel, and ten times its log10 over the rings of an
    octave. White noise of standard deviation 0.1 is -20 dB in each.

    Args:
        images: uint8, or float in [0, 1], [n, s, s, 1], n >= 1 and s >= 8.

    Returns:
        Lowest octave first; the limits are `octave_edges(s)`. No less than 10 log10 of
        `FLOOR`, which is -58.9 dB.

    Raises:
        TypeError: if images are neither uint8 nor float.
        ValueError: if the shape or a value is not as stated.
    """
    return octaves(profiles(images).mean(0), images.shape[1])


def profiles(images: np.ndarray) -> np.ndarray:
    """Of each image, its power around each ring: float64 [n, rings].

    As in `log_power`, which is `octaves` of their mean over images; so a bootstrap of
    images needs no transform twice.

    Raises:
        TypeError, ValueError: as `log_power`.
    """
    _check(images)
    size = images.shape[1]
    frequency = np.round(np.fft.fftfreq(size) * size)  # cycles/image: whole numbers
    ring = np.hypot(frequency[:, None], frequency).astype(int).ravel()
    pixels = np.bincount(ring)
    found = []
    for at in range(0, len(images), IMAGES_AT_ONCE):
        power = _power(images[at : at + IMAGES_AT_ONCE, ..., 0])
        found += [np.bincount(ring, one.ravel()) / pixels for one in power]
    return np.array(found)


def octaves(profile: np.ndarray, size: int) -> np.ndarray:
    """A mean of `profiles` [rings] of images of `size` px -> dB, float64 [bands]."""
    decibel = 10 * np.log10(np.maximum(profile, FLOOR))
    edges = octave_edges(size)
    middle = (np.arange(len(profile)) + 0.5) / size
    octave = np.minimum(np.searchsorted(edges, middle), len(edges) - 1)
    return np.array([decibel[octave == i].mean() for i in range(1, len(edges))])


def octave_edges(size: int) -> np.ndarray:
    """Limits of the octaves of images of `size` pixels, cycles/pixel: [bands + 1].

    ..., 1/16, 1/8, 1/4, 1/2: details of 1/2 cycle/pixel are pixels in turn light and
    dark. The highest octave also has the corners of the spectrum, up to 0.71, where a
    chequerboard is. The lowest begins at 2/size, or the next power of 2 above: slower
    changes cannot be told from the mean through the window. 64 pixels have 4 octaves
    from 1/32, 256 have 6 from 1/128.

    Raises:
        ValueError: if size is below 8, where no octave is left.
    """
    if size < 8:
        raise ValueError(f"images of {size} pixels have no octave; use at least 8")
    bands = size.bit_length() - 3  # the whole part of log2(size), less 2
    return 0.5 ** np.arange(bands + 1, 0, -1)


def _check(images: np.ndarray) -> None:
    shape = images.shape
    if images.ndim != 4 or not len(images) or shape[1:] != (shape[1], shape[1], 1):
        raise ValueError(f"images are {list(shape)}; must be [n, s, s, 1], n >= 1")
    if images.dtype == np.uint8:
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images are {images.dtype}; use uint8, or float from 0 to 1")
    if not (images.min() >= 0 and images.max() <= 1):  # also for NaN
        raise ValueError(
            f"values are from {images.min()} to {images.max()}; must be from 0 to 1, "
            "or uint8"
        )


def _power(images: np.ndarray) -> np.ndarray:
    """uint8 or float [n, s, s] -> float64 [n, s, s], laid out as by `np.fft.fft2`."""
    size = images.shape[1]
    line = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)
    window = np.outer(line, line)
    scale = 255 if images.dtype == np.uint8 else 1
    x = images.astype(np.float64) / scale
    # The mean under the window: what is left then has none to leak upwards.
    mean = np.einsum("nij,ij->n", x, window) / window.sum()
    x = (x - mean[:, None, None]) * window
    return np.abs(np.fft.fft2(x)) ** 2 / np.sum(window**2)
