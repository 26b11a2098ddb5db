"""What every contestant plays by, as plain numbers: no library is imported for it."""

import dataclasses
from typing import Any, Protocol

import numpy as np

_TAPS = np.array([-1, 4, 10, 4, -1]) / 16
_FINE = np.outer([-1, 2, -1], [-1, 2, -1]) / 16  # cxr_gan.models.layers.checkerboard
_SAME = np.pad([[1.0]], 1)
BLUR = np.outer(_TAPS, _TAPS)  # of G's smooth image, see cxr_gan.models.layers.blur
DAMPED = _SAME - 0.75 * _FINE  # of its detail


def raised(resolution: int) -> np.ndarray:
    """A kernel [3, 3] for all that D sees, see cxr_gan.models.discriminator."""
    return _SAME + (min(resolution, 64) / 8 - 1) * _FINE


@dataclasses.dataclass(frozen=True)
class Rules:
    """Networks, losses and optimizer of configs/acgan.py, their widths worked out."""

    batch_size: int
    resolution: int  # pixels a side
    num_classes: int
    latent_size: int
    embedding: int
    widths_g: tuple[int, ...]  # features at 4, 8, .. resolution / 2 pixels
    widths_d: tuple[int, ...]  # at resolution / 2, .. 8, 4
    group: int  # examples that D compares
    class_weight_d: float
    class_weight_g: float
    sameness_weight: float
    r1_weight: float
    r1_every: int  # steps
    brightness: float
    contrast: float
    cutout: float
    translation: float
    beta1: float
    beta2: float
    ema_keep: float  # share of the average that a step leaves
    learning_rate: float = 2e-4  # of the rivals' plain Adam

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Noise: uint8 [n, s, s, 1], and labels int32 [n], classes interleaved."""
        n, s = self.batch_size, self.resolution
        image = np.random.default_rng(0).integers(0, 256, (n, s, s, 1), np.uint8)
        return image, np.arange(n, dtype=np.int32) % self.num_classes

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Rules":
        """What `dataclasses.asdict` gave, after JSON made lists of its tuples."""
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **lists})


class Contestant(Protocol):
    """One program that trains and samples."""

    def play(self, rounds: int) -> None:
        """So many training steps; returns when the last has been computed."""

    def sample(self, count: int) -> np.ndarray:
        """float32 [count, s, s, 1] in [0, 1], the labels interleaved."""
