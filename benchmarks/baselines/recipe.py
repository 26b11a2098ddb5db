"""A common PyTorch recipe at 64 x 64 pixels, not tuned for radiographs.

Least-squares loss and a class output; G with transposed convolutions, D with strided
convolutions and spectral normalisation; DiffAugment; Adam; bfloat16.

Sources: Mao et al. 2017, "Least Squares GANs"; Odena et al. 2017, "Auxiliary Classifier
GANs"; Miyato et al. 2018, "Spectral Normalization for GANs"; Zhao et al. 2020,
"Differentiable Augmentation for Data-Efficient GAN Training" (strengths as published).
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.baselines.torch_baseline import augment

LATENT, EMBEDDING, GROUPS = 128, 64, 8
UP, DOWN = (256, 128, 64, 32), (32, 64, 128, 256)  # channels from 4 px, and from 32 px
BATCH, RATE, BETAS, EMA = 32, 3e-4, (0.0, 0.99), 0.998
CLASS_D, CLASS_G = 1.0, 0.5  # class loss weights: D on real, G on generated images


class Strengths(NamedTuple):
    """Strengths of DiffAugment, in the units of configs/acgan.py."""

    brightness: float = 1.0
    contrast: float = 0.5
    translation: float = 0.125
    cutout: float = 0.5


class Norm(nn.Module):
    """Group norm; scale and shift are linear in the latent and class embedding."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, features, affine=False)
        self.gains = nn.Linear(LATENT + EMBEDDING, 2 * features)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [n, c, h, w], condition [n, d] -> [n, c, h, w]."""
        scale, shift = self.gains(condition)[:, :, None, None].chunk(2, 1)
        return self.norm(x) * (1 + scale) + shift


class Generator(nn.Module):
    """Transposed 4 x 4 convolutions from 4 to 64 px."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.embed = nn.Embedding(num_classes, EMBEDDING)
        self.stem = nn.Linear(LATENT + EMBEDDING, UP[0] * 16)
        self.norms = nn.ModuleList(Norm(width) for width in UP)
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1)
            for a, b in zip(UP, (*UP[1:], 1), strict=True)
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """z [n, 128], label [n] -> [n, 1, 64, 64] in [-1, 1]."""
        condition = torch.cat([z, self.embed(label)], 1)
        x = self.stem(condition).reshape(-1, UP[0], 4, 4)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.relu(norm(x, condition)))
        return torch.tanh(x.float())


class Discriminator(nn.Module):
    """Strided 4 x 4 convolutions from 64 to 4 px; all weights spectrally normalised."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.convs = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, 2, 1))
            for a, b in zip((1, *DOWN[:-1]), DOWN, strict=True)
        )
        self.realness = spectral_norm(nn.Linear(DOWN[-1] * 16, 1))
        self.pathology = spectral_norm(nn.Linear(DOWN[-1] * 16, num_classes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, 1, 64, 64] -> score float32 [n], class logits float32 [n, k]."""
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        x = x.flatten(1)
        return self.realness(x).float()[:, 0], self.pathology(x).float()


class Recipe:
    """Both networks, their optimizers, and the EMA of G."""

    def __init__(self, num_classes: int, seed: int):
        torch.manual_seed(seed)
        self.num_classes = num_classes
        self.g, self.ema = Generator(num_classes), Generator(num_classes)
        self.ema.load_state_dict(self.g.state_dict())
        self.d = Discriminator(num_classes)
        self._adam_g, self._adam_d = (
            torch.optim.Adam(network.parameters(), RATE, BETAS, fused=True)
            for network in (self.g, self.d)
        )

    def train_step(self, image: np.ndarray, label: np.ndarray) -> None:
        """Updates D, then G, then the EMA; image uint8 [n, 64, 64, 1], label int32 [n].

        Raises:
            FloatingPointError: a loss is not finite.
        """
        real = torch.tensor(image).permute(0, 3, 1, 2).float() / 127.5 - 1
        target = torch.tensor(label, dtype=torch.int64)
        with torch.autocast("cpu", torch.bfloat16):
            fake = self.g(torch.randn(len(target), LATENT), target)
            real_score, logits = self.d(augment(real, Strengths()))
            fake_score, _ = self.d(augment(fake.detach(), Strengths()))
        loss_d = 0.5 * ((real_score - 1) ** 2 + fake_score**2).mean()
        loss_d = loss_d + CLASS_D * F.cross_entropy(logits, target)
        loss_d.backward()
        self._adam_d.step()
        self.d.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16):
            fake_score, logits = self.d(augment(fake, Strengths()))
        loss_g = 0.5 * ((fake_score - 1) ** 2).mean()
        loss_g = loss_g + CLASS_G * F.cross_entropy(logits, target)
        loss_g.backward()
        self._adam_g.step()
        self.d.requires_grad_(True)
        for adam in (self._adam_d, self._adam_g):
            adam.zero_grad()
        if not torch.isfinite(loss_d + loss_g):
            raise FloatingPointError("a loss is not finite")
        with torch.no_grad():
            pairs = [list(net.parameters()) for net in (self.ema, self.g)]
            torch._foreach_lerp_(*pairs, 1 - EMA)

    @torch.inference_mode()
    def generate(self, label: np.ndarray, seed: int) -> np.ndarray:
        """Images of the EMA generator: labels int [n] -> uint8 [n, 64, 64]."""
        rng = torch.Generator().manual_seed(seed)
        images = []
        for chunk in torch.from_numpy(label.astype(np.int64)).split(100):
            z = torch.randn(len(chunk), LATENT, generator=rng)
            images.append(self.ema(z, chunk)[:, 0].numpy())
        grey = np.concatenate(images) * 127.5 + 127.5
        return np.clip(np.round(grey), 0, 255).astype(np.uint8)
