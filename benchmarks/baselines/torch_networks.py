"""The networks of cxr_gan in PyTorch. Images are [n, 1, s, s]."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines.settings import (
    HEAD_CHANNELS,
    STEM_CHANNELS,
    Settings,
    emphasis,
    noise_patterns,
)

CHANNELS_LAST = torch.channels_last


class AdaptiveNorm(nn.Module):
    """LayerNorm over an example; scale and bias are linear in a condition."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.gains = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [n, c, h, w], condition [n, d] -> [n, c, h, w]."""
        scale, bias = self.gains(condition)[:, :, None, None].chunk(2, 1)
        return F.group_norm(x, 1) * (1 + scale) + bias


class UpBlock(nn.Module):
    """Residual block that doubles height and width."""

    def __init__(self, c_in: int, c_out: int, condition: int):
        super().__init__()
        self.skip = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.norm_in = AdaptiveNorm(c_in, condition)
        self.conv_in = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm_out = AdaptiveNorm(c_out, condition)
        self.conv_out = nn.Conv2d(c_out, c_out, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [n, c_in, h, w], condition [n, d] -> [n, c_out, 2h, 2w]."""
        h = upsample(self.conv_in(F.relu(self.norm_in(x, condition))))
        h = self.conv_out(F.relu(self.norm_out(h, condition)))
        return upsample(self.skip(x)) + h


class Head(nn.Module):
    """Block at full resolution and a convolution to an image."""

    def __init__(self, channels: int, condition: int, settings: Settings):
        super().__init__()
        resolution = settings.resolution
        self.block = UpBlock(channels, HEAD_CHANNELS, condition)
        self.norm = AdaptiveNorm(HEAD_CHANNELS, condition)
        self.image = nn.Conv2d(HEAD_CHANNELS, 1, 3, padding=1)
        nn.init.zeros_(self.image.weight)
        nn.init.zeros_(self.image.bias)
        self.noise_gain = nn.Parameter(torch.zeros(HEAD_CHANNELS, 1, 1))
        rows, columns = map(
            torch.from_numpy, noise_patterns(settings.latent_size, resolution)
        )
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        inverse = np.linalg.inv(emphasis(resolution))
        self.register_buffer("deemphasis", torch.from_numpy(inverse))

    def forward(self, x: Tensor, condition: Tensor, z: Tensor) -> Tensor:
        """x [n, c, h, w], condition [n, d], z [n, latent] -> [n, 1, 2h, 2w]."""
        x = F.relu(self.norm(self.block(x, condition), condition))
        noise = (z[:, None] * self.rows.T) @ self.columns
        x = self.image(x * (1 + self.noise_gain * noise[:, None]))
        return self.deemphasis @ x @ self.deemphasis.T


class Generator(nn.Module):
    """The same network as cxr_gan.models.generator."""

    def __init__(self, settings: Settings):
        super().__init__()
        channels = settings.channels_g
        condition = settings.latent_size + settings.class_embedding_dim
        self.embed = nn.Embedding(settings.num_classes, settings.class_embedding_dim)
        self.stem = nn.Linear(condition, 16 * channels[0])
        self.blocks = nn.ModuleDict(
            {
                f"block_{8 * 2**stage}": UpBlock(a, b, condition)
                for stage, (a, b) in enumerate(itertools.pairwise(channels))
            }
        )
        self.head = Head(channels[-1], condition, settings)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """z [n, latent], label int64 [n] -> [n, 1, s, s] in [-1, 1]."""
        condition = torch.cat([z, self.embed(label)], 1)
        x = self.stem(condition).view(len(z), 4, 4, -1).permute(0, 3, 1, 2)
        for block in self.blocks.values():
            x = block(x, condition)
        return self.head(x, condition, z).tanh()


class DownBlock(nn.Module):
    """Residual block that halves height and width, with or without LayerNorm."""

    def __init__(self, c_in: int, c_out: int, norm: bool):
        super().__init__()
        self.skip = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.norm_in = nn.GroupNorm(1, c_in) if norm else nn.Identity()
        self.conv_in = nn.Conv2d(c_in, c_in, 3, padding=1)
        self.norm_out = nn.GroupNorm(1, c_in) if norm else nn.Identity()
        self.conv_out = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, c_in, h, w] -> [n, c_out, h / 2, w / 2]."""
        skip = self.skip(F.avg_pool2d(x, 2))
        h = self.conv_in(F.leaky_relu(self.norm_in(x), 0.2))
        h = F.avg_pool2d(F.leaky_relu(self.norm_out(h), 0.2), 2)
        return (skip + self.conv_out(h)) * 0.5**0.5


class Stem(nn.Module):
    """Convolution and block at full resolution."""

    def __init__(self, channels: int, resolution: int):
        super().__init__()
        self.image = nn.Conv2d(1, STEM_CHANNELS, 3, padding=1)
        self.block = DownBlock(STEM_CHANNELS, channels, norm=False)
        self.register_buffer("emphasis", torch.from_numpy(emphasis(resolution)))

    def forward(self, image: Tensor) -> Tensor:
        """image [n, 1, s, s] -> [n, channels, s / 2, s / 2]."""
        image = self.emphasis @ image @ self.emphasis.T
        return self.block(self.image(image.contiguous(memory_format=CHANNELS_LAST)))


class Discriminator(nn.Module):
    """The same network as cxr_gan.models.discriminator."""

    def __init__(self, settings: Settings):
        super().__init__()
        channels = settings.channels_d
        self.group_size = settings.group_size
        self.num_classes = settings.num_classes
        self.stem = Stem(channels[0], settings.resolution)
        self.blocks = nn.ModuleDict(
            {
                f"block_{settings.resolution // 2 ** (i + 1)}": DownBlock(a, b, i > 0)
                for i, (a, b) in enumerate(itertools.pairwise(channels))
            }
        )
        self.norm = nn.GroupNorm(1, channels[-1])
        self.mix = nn.Conv2d(channels[-1] + 1, channels[-1], 3, padding=1)
        # Both names are those of the Flax layers.
        self.realness = nn.Linear(channels[-1], 1)
        self.pathology = nn.Linear(channels[-1], settings.num_classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image [n, 1, s, s] in [-1, 1] -> score [n], class logits [n, k]."""
        x = self.stem(image)
        for block in self.blocks.values():
            x = block(x)
        x = self.mix(self._append_group_deviation(self.norm(x)))
        features = F.leaky_relu(x, 0.2).mean((2, 3))
        return self.realness(features)[:, 0], self.pathology(features)

    def _append_group_deviation(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c + 1, h, w]: cxr_gan.models.layers.group_deviation."""
        n, c, h, w = x.shape
        k, per_class = self.num_classes, self.group_size // self.num_classes
        groups = x.reshape(n // self.group_size, per_class, k, c, h, w)
        variance = groups.var(1, correction=0, keepdim=True)
        deviation = ((variance + 1e-8).sqrt().mean((3, 4, 5)) + 1e-3).log()
        channel = deviation.expand(groups.shape[:3]).reshape(n, 1, 1, 1)
        return torch.cat([x, channel.expand(n, 1, h, w)], 1)


def upsample(x: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, c, 2h, 2w], bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
