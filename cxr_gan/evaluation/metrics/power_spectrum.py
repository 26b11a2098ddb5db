"""Spatial power spectrum of images: octaves, and alternations from pixel to pixel.

Generators tend to lack or exaggerate power at the highest frequencies, to which
classifier features are almost insensitive (Durall, Keuper & Keuper 2020, "Watch your
up-convolution: CNN based generative deep neural networks are failing to reproduce
spectral distributions").
"""

import numpy as np

from cxr_gan.evaluation.metrics.batching import map_batches

# Power of the noise of rounding to uint8, (1/255)^2 / 12 for values from 0 to 1. Lower
# power cannot be stored in an image file and is raised to this value, so that its
# logarithm is finite.
FLOOR = (1 / 255) ** 2 / 12

# Stripes of 1 and of 2 pixels, and checkerboards, by their frequencies down and across
# in cycles/pixel. Upsampling layers of generators tend to add them.
ALTERNATIONS = {
    "rows": (1 / 2, 0),
    "columns": (0, 1 / 2),
    "both": (1 / 2, 1 / 2),
    "rows of 2 px": (1 / 4, 0),
    "columns of 2 px": (0, 1 / 4),
}
ALTERNATION_WIDTH = 1 / 32  # cycles/pixel, largest distance from these frequencies

IMAGES_PER_BATCH = 64


def profiles(images: np.ndarray) -> np.ndarray:
    """Power of each image: uint8 [n, s, s, 1] -> float64 [n, rings + 5].

    First by distance from frequency 0, then of the `ALTERNATIONS`. Computed for images
    scaled to [0, 1]:

    1. The mean under the window is subtracted, and the image is multiplied by a Hann
       window in both directions. Without a window, the step between opposite borders
       would appear as detail.
    2. Power is the squared Fourier transform divided by the sum of the squared window.
       White noise of variance v has power v at every frequency. The power of a cosine
       spreads over neighbouring frequencies, by 1 cycle per image.
    3. Power is averaged over rings of width 1/s cycles/pixel, and over the frequencies
       within `ALTERNATION_WIDTH` of each alternation along both axes.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], or n is 0.
    """
    return map_batches(_profiles, images, IMAGES_PER_BATCH)


def bands(profile: np.ndarray, size: int) -> np.ndarray:
    """Power in each octave, and of each alternation: [rings + 5] -> dB, [octaves + 5].

    10 log10 of the power is averaged over the rings of each octave. White noise of
    standard deviation 0.1 is -20 dB in each band.

    Args:
        profile: mean over images of `profiles`. A bootstrap over images averages
            profiles and computes no Fourier transform again.
        size: of the images, in px, at least 8.

    Returns:
        The lowest octave first; the limits are `octave_edges(size)`. At least 10 log10
        of `FLOOR`, which is -58.9 dB.

    Raises:
        ValueError: as `octave_edges`.
    """
    decibel = 10 * np.log10(np.maximum(profile, FLOOR))
    rings, alternations = np.split(decibel, [-len(ALTERNATIONS)])
    edges = octave_edges(size)
    ring_centre = (np.arange(len(rings)) + 0.5) / size  # cycles/pixel
    octave = np.minimum(np.searchsorted(edges, ring_centre), len(edges) - 1)
    means = [rings[octave == i].mean() for i in range(1, len(edges))]
    return np.concatenate([means, alternations])


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


def spectra(images: np.ndarray) -> np.ndarray:
    """Steps 1 and 2 of `profiles`: uint8 [n, s, s, 1] -> float64 [n, s, s]."""
    size = images.shape[1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)
    window = np.outer(hann, hann)
    x = images[..., 0] / 255
    # Subtract the windowed mean: any other would leak into the lowest frequencies.
    mean = np.einsum("nij,ij->n", x, window) / window.sum()
    x = (x - mean[:, None, None]) * window
    return np.abs(np.fft.fft2(x)) ** 2 / np.sum(window**2)


def _profiles(images: np.ndarray) -> np.ndarray:
    """uint8 [n, s, s, 1] -> float64 [n, rings + 5]."""
    size, powers = images.shape[1], spectra(images)
    frequency = np.abs(np.round(np.fft.fftfreq(size) * size))  # cycles/image, integers
    ring = np.hypot(frequency[:, None], frequency).astype(int).ravel()
    sums = [np.bincount(ring, power.ravel()) for power in powers]
    alternations = []
    for exact in ALTERNATIONS.values():
        down, across = (
            np.abs(frequency - f * size) <= ALTERNATION_WIDTH * size for f in exact
        )
        alternations.append(powers[:, down][:, :, across].mean((1, 2)))
    rings = np.array(sums) / np.bincount(ring)
    return np.concatenate([rings, np.stack(alternations, 1)], 1)
