"""What every program is built from, as plain numbers; imports no deep learning library.

`benchmarks.worker` sends `Settings` to the processes of the programs as JSON.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

HEAD_CHANNELS, STEM_CHANNELS = 16, 8  # at full resolution, in G and in D


def emphasis(resolution: int) -> np.ndarray:
    """float32 [s, s]: the filter [-1, 6, -1] / 4 along one axis, edges replicated.

    See cxr_gan.models.layers.emphasize.
    """
    shifted = np.pad(np.eye(resolution), ((1, 1), (0, 0)), mode="edge")
    matrix = 1.5 * shifted[1:-1] - 0.25 * (shifted[:-2] + shifted[2:])
    return matrix.astype(np.float32)


def noise_patterns(latent_size: int, resolution: int) -> np.ndarray:
    """float32 [2, d, s]; see cxr_gan.models.layers.noise_patterns."""
    raw = np.random.PCG64(0).random_raw(2 * latent_size * resolution)
    signs = 1.0 - 2.0 * (raw >> np.uint64(63)).reshape(2, latent_size, resolution)
    return (signs / latent_size**0.25).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Networks, losses and optimizer of configs/acgan.py, with channels per stage."""

    batch_size: int
    resolution: int  # pixels per side
    num_classes: int
    latent_size: int
    class_embedding_dim: int
    channels_g: Sequence[int]  # at 4, 8, ... resolution / 2 pixels
    channels_d: Sequence[int]  # at resolution / 2, ... 8, 4 pixels
    group_size: int  # examples over which D computes the standard deviation
    class_weight_d: float
    class_weight_g: float
    diversity_weight: float
    r1_weight: float  # at this resolution
    r1_interval: int  # steps
    brightness: float
    contrast: float
    cutout: float
    translation: float
    beta1: float
    beta2: float
    ema_decay: float  # factor of the old average in each step
    learning_rate: float = 2e-4  # of the plain Adam of all programs but cxr_gan

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Noise images uint8 [n, s, s, 1] and labels int32 [n], classes interleaved."""
        n, s = self.batch_size, self.resolution
        image = np.random.default_rng(0).integers(0, 256, (n, s, s, 1), np.uint8)
        return image, np.arange(n, dtype=np.int32) % self.num_classes


class Baseline(Protocol):
    """A program that trains and samples."""

    def train(self, steps: int) -> None:
        """Runs training steps; returns when the last one has been computed."""

    def sample(self, count: int) -> np.ndarray:
        """Generated images float32 [count, s, s, 1] in [0, 1], classes interleaved."""
