"""The networks of cxr_gan in PyTorch. Images here are [n, 1, s, s]."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rivals.rules import BLUR, DAMPED, Rules, raised

LAST = torch.channels_last


class AdaptiveNorm(nn.Module):
    """LayerNorm of a whole example, its gains read off a condition."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.gains = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [n, c, h, w], condition [n, d] -> [n, c, h, w]."""
        scale, bias = self.gains(condition)[:, :, None, None].chunk(2, 1)
        return F.group_norm(x, 1) * (1 + scale) + bias


class UpBlock(nn.Module):
    """Doubles height and width."""

    def __init__(self, before: int, after: int, condition: int):
        super().__init__()
        self.skip = nn.Conv2d(before, after, 1, bias=False)
        self.norm_in = AdaptiveNorm(before, condition)
        self.conv_in = nn.Conv2d(before, after, 3, padding=1)
        self.norm_out = AdaptiveNorm(after, condition)
        self.conv_out = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [n, before, h, w] -> [n, after, 2h, 2w]."""
        h = upsample(self.conv_in(F.relu(self.norm_in(x, condition))))
        h = self.conv_out(F.relu(self.norm_out(h, condition)))
        return upsample(self.skip(x)) + h


class Head(nn.Module):
    """A smooth reading of the features, and their fine detail, added."""

    def __init__(self, features: int):
        super().__init__()
        self.smooth = nn.Conv2d(features, 4, 3, padding=1)
        self.fine = nn.Conv2d(features, 16, 3, padding=1)
        self.detail = nn.Conv2d(16, 4, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(1))
        for name, kernel in (("blur", BLUR), ("damped", DAMPED)):
            self.register_buffer(name, torch.tensor(kernel[None, None]).float())

    def forward(self, x: Tensor) -> Tensor:
        """x [n, features, h, w] -> [n, 1, 2h, 2w]."""
        smooth = F.pixel_shuffle(self.smooth(x), 2)
        detail = F.pixel_shuffle(self.detail(F.leaky_relu(self.fine(x), 0.2)), 2)
        return filtered(smooth, self.blur) + self.gain * filtered(detail, self.damped)


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """x [n, 1, h, w] -> the same shape; the border repeats itself."""
    reach = kernel.shape[-1] // 2
    return F.conv2d(F.pad(x, (reach,) * 4, mode="replicate"), kernel)


class Generator(nn.Module):
    """As cxr_gan.models.generator."""

    def __init__(self, rules: Rules):
        super().__init__()
        widths, condition = rules.widths_g, rules.latent_size + rules.embedding
        self.pathology = nn.Embedding(rules.num_classes, rules.embedding)
        self.stem = nn.Linear(condition, 16 * widths[0])
        pairs = itertools.pairwise(widths)
        self.blocks = nn.ModuleList(UpBlock(a, b, condition) for a, b in pairs)
        self.norm = AdaptiveNorm(widths[-1], condition)
        self.head = Head(widths[-1])

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """z [n, latent], label int64 [n] -> [n, 1, s, s] in [-1, 1]."""
        condition = torch.cat([z, self.pathology(label)], 1)
        x = self.stem(condition).view(len(z), 4, 4, -1).permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x, condition)
        return self.head(F.relu(self.norm(x, condition))).tanh()


class DownBlock(nn.Module):
    """Halves height and width."""

    def __init__(self, before: int, after: int, norm: bool):
        super().__init__()
        self.skip = nn.Conv2d(before, after, 1, bias=False)
        self.norm_in = nn.GroupNorm(1, before) if norm else nn.Identity()
        self.conv_in = nn.Conv2d(before, before, 3, padding=1)
        self.norm_out = nn.GroupNorm(1, before) if norm else nn.Identity()
        self.conv_out = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, before, h, w] -> [n, after, h / 2, w / 2]."""
        skip = self.skip(F.avg_pool2d(x, 2))
        h = self.conv_in(F.leaky_relu(self.norm_in(x), 0.2))
        h = F.avg_pool2d(F.leaky_relu(self.norm_out(h), 0.2), 2)
        return (skip + self.conv_out(h)) * 0.5**0.5


class Discriminator(nn.Module):
    """As cxr_gan.models.discriminator."""

    def __init__(self, rules: Rules):
        super().__init__()
        widths = rules.widths_d
        self.group, self.num_classes = rules.group, rules.num_classes
        self.stem = nn.Conv2d(4, widths[0], 3, padding=1)
        pairs = itertools.pairwise(widths)
        self.blocks = nn.ModuleList(
            DownBlock(a, b, norm=i > 0) for i, (a, b) in enumerate(pairs)
        )
        self.norm = nn.GroupNorm(1, widths[-1])
        self.mix = nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1)
        self.realness = nn.Linear(widths[-1], 1)
        self.pathology = nn.Linear(widths[-1], rules.num_classes)
        kernel = torch.tensor(raised(rules.resolution)[None, None]).float()
        self.register_buffer("raised", kernel)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image [n, 1, s, s] in [-1, 1] -> realness [n], logits [n, k]."""
        seen = F.pixel_unshuffle(filtered(image, self.raised), 2)
        x = self.stem(seen.contiguous(memory_format=LAST))
        for block in self.blocks:
            x = block(x)
        x = self.mix(self._with_deviation(self.norm(x)))
        features = F.leaky_relu(x, 0.2).mean((2, 3))
        return self.realness(features)[:, 0], self.pathology(features)

    def _with_deviation(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        k = self.num_classes
        mates = x.reshape(n // self.group, self.group // k, k, c, h, w)
        variance = mates.var(1, correction=0, keepdim=True)
        each = ((variance + 1e-8).sqrt().mean((3, 4, 5)) + 1e-3).log()
        channel = each.expand(mates.shape[:3]).reshape(n, 1, 1, 1)
        return torch.cat([x, channel.expand(n, 1, h, w)], 1)


def upsample(x: Tensor) -> Tensor:
    """x [n, c, h, w] -> [n, c, 2h, 2w]: bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
