"""Spatial power spectrum of images, in octaves.

Generators tend to lack or exaggerate power at the highest frequencies, to which
classifier features are almost insensitive (Durall, Keuper & Keuper 2020, "Watch your
up-convolution: CNN based generative deep neural networks are failing to reproduce
spectral distributions").
"""

import numpy as np

# Power of the noise of rounding to uint8, (1/255)^2 / 12 for values from 0 to 1. Lower
# power cannot be stored in an image file and is raised to this value, so that its
# logarithm is finite.
FLOOR = (1 / 255) ** 2 / 12

IMAGES_PER_BATCH = 64


def octave_difference(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """`log_power` of generated images minus that of real ones: dB, float64 [bands].

    Lowest octave first, as in `octave_edges`. Positive where generated images have more
    power: +3 is twice as much, -3 half as much. Blurred images have a negative highest
    octave.

    Args:
        generated: uint8, or float in [0, 1], [n, s, s, 1].
        real: the same, [m, s, s, 1].

    Raises:
        TypeError, ValueError: as `log_power`; the sizes differ.
    """
    if generated.shape[1:] != real.shape[1:]:
        raise ValueError(
            f"images have shapes {list(generated.shape)} and {list(real.shape)}; sizes "
            "must be equal: load the real images at the size of the generated ones"
        )
    return log_power(generated) - log_power(real)


def log_power(images: np.ndarray) -> np.ndarray:
    """Mean power in each octave of spatial frequency: dB, float64 [bands].

    Computed for images scaled to [0, 1]:

    1. The mean under the window is subtracted, and the image is multiplied by a Hann
       window in both directions. Without a window, the step between opposite borders
       would appear as detail.
    2. Power is the squared Fourier transform divided by the sum of the squared window.
       White noise of variance v has power v at every frequency. The power of a cosine
       spreads over neighbouring frequencies, by 1 cycle per image.
    3. Power is averaged over images, then over rings of width 1/s cycles/pixel.
    4. 10 log10 of it is averaged over the rings of each octave. White noise of standard
       deviation 0.1 is -20 dB in each octave.

    Args:
        images: uint8, or float in [0, 1], [n, s, s, 1], n >= 1 and s >= 8.

    Returns:
        Lowest octave first; the limits are `octave_edges(s)`. At least 10 log10 of
        `FLOOR`, which is -58.9 dB.

    Raises:
        TypeError: if images are neither uint8 nor float.
        ValueError: if the shape or a value is not as stated.
    """
    return octaves(profiles(images).mean(0), images.shape[1])


def profiles(images: np.ndarray) -> np.ndarray:
    """Radial power profile of each image, by ring: float64 [n, rings].

    `log_power` is `octaves` of the mean profile. A bootstrap over images can therefore
    average profiles without computing Fourier transforms again.

    Raises:
        TypeError, ValueError: as `log_power`.
    """
    _check(images)
    size = images.shape[1]
    frequency = np.round(np.fft.fftfreq(size) * size)  # cycles/image, integers
    ring = np.hypot(frequency[:, None], frequency).astype(int).ravel()
    frequencies_per_ring = np.bincount(ring)
    result = []
    for start in range(0, len(images), IMAGES_PER_BATCH):
        batch = _power(images[start : start + IMAGES_PER_BATCH, ..., 0])
        result += [
            np.bincount(ring, power.ravel()) / frequencies_per_ring for power in batch
        ]
    return np.array(result)


def octaves(profile: np.ndarray, size: int) -> np.ndarray:
    """Mean of `profiles` [rings] of images of `size` px -> dB, float64 [bands]."""
    decibel = 10 * np.log10(np.maximum(profile, FLOOR))
    edges = octave_edges(size)
    ring_centre = (np.arange(len(profile)) + 0.5) / size  # cycles/pixel
    octave = np.minimum(np.searchsorted(edges, ring_centre), len(edges) - 1)
    return np.array([decibel[octave == i].mean() for i in range(1, len(edges))])


def octave_edges(size: int) -> np.ndarray:
    """Limits of the octaves of images of `size` px, cycles/pixel: float64 [bands + 1].

    Ascending: ..., 1/16, 1/8, 1/4, 1/2, where 1/2 cycle/pixel is an alternation of
    bright and dark pixels. The highest octave also contains the corners of the
    spectrum, up to 0.71 cycles/pixel, such as a checkerboard. The lowest limit is
    2/size, or the next power of 2 above it: through the window, lower frequencies
    cannot be separated from the mean. 64 px have 4 octaves from 1/32, 256 px have 6
    from 1/128.

    Raises:
        ValueError: if size is below 8, where no octave is left.
    """
    if size < 8:
        raise ValueError(f"images of {size} px have no octave; use at least 8 px")
    bands = size.bit_length() - 3  # floor(log2(size)) - 2
    return 0.5 ** np.arange(bands + 1, 0, -1)


def _check(images: np.ndarray) -> None:
    shape = images.shape
    if images.ndim != 4 or not len(images) or shape[1:] != (shape[1], shape[1], 1):
        raise ValueError(
            f"images have shape {list(shape)}; must be [n, s, s, 1] with n >= 1"
        )
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
    """uint8 or float [n, s, s] -> float64 [n, s, s], in the order of `np.fft.fft2`."""
    size = images.shape[1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)
    window = np.outer(hann, hann)
    scale = 255 if images.dtype == np.uint8 else 1
    x = images.astype(np.float64) / scale
    # Subtract the windowed mean: any other would leak into the lowest frequencies.
    mean = np.einsum("nij,ij->n", x, window) / window.sum()
    x = (x - mean[:, None, None]) * window
    return np.abs(np.fft.fft2(x)) ** 2 / np.sum(window**2)
