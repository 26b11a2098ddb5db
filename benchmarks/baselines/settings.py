"""What every program is built from, as plain numbers; imports no deep learning library.

`benchmarks.worker` sends `Settings` to the processes of the programs as JSON.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

_TAPS = np.array([-1, 4, 10, 4, -1]) / 16
# The kernel of cxr_gan.models.layers.checkerboard.
_CHECKERBOARD = np.outer([-1, 2, -1], [-1, 2, -1]) / 16
_IDENTITY = np.pad([[1.0]], 1)
BLUR = np.outer(_TAPS, _TAPS)  # of G's smooth branch, see cxr_gan.models.layers.blur
DETAIL_FILTER = _IDENTITY - 0.75 * _CHECKERBOARD  # of G's detail branch


def amplify_checkerboard(resolution: int) -> np.ndarray:
    """Kernel [3, 3] of D's input filter, see cxr_gan.models.discriminator."""
    return _IDENTITY + (min(resolution, 64) / 8 - 1) * _CHECKERBOARD


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
    r1_weight: float
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
