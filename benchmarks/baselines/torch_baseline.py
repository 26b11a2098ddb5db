"""The training step of cxr_gan in PyTorch, channels last. Images are [n, 1, s, s].

Both updates use one forward pass of G. In the tuned variant real and generated images
go through D in one batch, D is frozen in G's update, and Adam is fused. The other
variant is written as in tutorials: D processes real and generated images one after the
other, G's update also computes gradients of D that are not used, and Adam has its
default implementation.
"""

import contextlib
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines.settings import Settings
from benchmarks.baselines.torch_networks import (
    CHANNELS_LAST,
    Discriminator,
    Generator,
)

DIVERSITY_SIZE = 16  # pixels per side at which the diversity of images is compared


def augment(image: Tensor, settings: Settings) -> Tensor:
    """Brightness, contrast, cutout, translation, as cxr_gan.training.augmentation."""
    n, _, size, _ = image.shape
    image = image + settings.brightness * (torch.rand(n, 1, 1, 1) - 0.5)
    mean = image.mean((1, 2, 3), keepdim=True)
    factor = 1 + settings.contrast * (2 * torch.rand(n, 1, 1, 1) - 1)
    image = (image - mean) * factor + mean
    index, side = torch.arange(size), round(settings.cutout * size)
    first = torch.randint(0, size + 1 - side % 2, (2, n, 1)) - side // 2
    row, column = (first <= index) & (index < first + side)
    image = image * ~(row[:, :, None] & column[:, None, :])[:, None]
    reach = round(settings.translation * size)
    shift = torch.randint(-reach, reach + 1, (2, n, 1, 1))
    rows, columns = (index[:, None] == index + shift).to(image.dtype)
    return (rows @ image[:, 0] @ columns.transpose(1, 2))[:, None]


def diversity(real: Tensor, fake: Tensor, settings: Settings) -> Tensor:
    """cxr_gan.training.loss_terms.diversity_loss without its weight -> []."""

    def variation(x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, x.shape[-1] // min(DIVERSITY_SIZE, x.shape[-1]))
        x = F.group_norm(x, 1)[:, 0]
        k = settings.num_classes
        groups = x.reshape(-1, settings.group_size // k, k, *x[0].shape)
        return (groups - groups.roll(1, 1)).abs().mean((1, 3, 4))

    a, b = variation(real), variation(fake)
    return ((2 * (a - b) / (a + b + 1e-6)) ** 2).mean()


class Losses(NamedTuple):
    """Losses of one step, [] each, without their weights; R1 includes its weight.

    R1 is 0 in the steps that do not evaluate it.
    """

    adversarial_d: Tensor
    class_d: Tensor
    r1: Tensor
    adversarial_g: Tensor
    class_g: Tensor
    diversity: Tensor


class TorchBaseline:
    """Both networks, their optimizers, and the training step."""

    def __init__(
        self,
        settings: Settings,
        tuned: bool = True,
        compiled: bool = False,
        bfloat16: bool = False,
    ):
        self.settings, self._step = settings, 0
        self._tuned, self._bfloat16 = tuned, bfloat16
        self.g = Generator(settings).to(memory_format=CHANNELS_LAST)
        self.d = Discriminator(settings).to(memory_format=CHANNELS_LAST)
        self._ema = [p.detach().clone() for p in self.g.parameters()]
        # R1 calls `self.d` itself: compiled modules have no second derivatives.
        compile_: Any = torch.compile if compiled else lambda module: module
        self._generate = compile_(self.g)
        self._discriminate = compile_(self.d)
        self._augment = compile_(augment)
        self._adam_g, self._adam_d = (self._adam(m) for m in (self.g, self.d))
        image, label = settings.batch()
        self._image = torch.from_numpy(image).permute(0, 3, 1, 2)
        self._label = torch.from_numpy(label.astype(np.int64))

    def _adam(self, network: nn.Module) -> torch.optim.Optimizer:
        betas = (self.settings.beta1, self.settings.beta2)
        rate = self.settings.learning_rate
        fused = True if self._tuned else None
        return torch.optim.Adam(network.parameters(), rate, betas, fused=fused)

    def train(self, steps: int) -> None:
        """Runs steps eagerly: each has been computed when it returns."""
        for _ in range(steps):
            z = torch.randn(self.settings.batch_size, self.settings.latent_size)
            self.train_step(z)

    def train_step(self, z: Tensor) -> Losses:
        """Updates D, then G, then the EMA of G; z [n, latent]."""
        with self._autocast():
            real = self._image.float() / 127.5 - 1
            real_augmented = self._augment(real, self.settings)
            fake = self._generate(z, self._label).float()
        losses_d = self._update_discriminator(real_augmented, fake.detach())
        losses_g = self._update_generator(real, fake)
        with torch.no_grad():
            weights = list(self.g.parameters())
            torch._foreach_lerp_(self._ema, weights, 1 - self.settings.ema_decay)
        self._step += 1
        return Losses(*losses_d, *losses_g)

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        """For forward passes only: it caches cast weights until the block ends."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16)

    def _update_discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        """Adversarial loss, class loss and R1; `real` is augmented, `fake` is not."""
        with self._autocast():
            fake = self._augment(fake, self.settings)
            if self._tuned:
                score, logits = self._discriminate(torch.cat([real, fake]))
                (real_score, fake_score), logits = score.chunk(2), logits[: len(real)]
            else:
                real_score, logits = self._discriminate(real)
                fake_score, _ = self._discriminate(fake)
        real_score, fake_score = real_score.float(), fake_score.float()
        logits = logits.float()
        adversarial = (0.5 * (real_score - 1) ** 2 + 0.5 * fake_score**2).mean()
        class_loss = F.cross_entropy(logits, self._label)
        (adversarial + self.settings.class_weight_d * class_loss).backward()
        r1 = torch.zeros(())
        if self._step % self.settings.r1_interval == 0:
            r1 = self._gradient_penalty(real)
            r1.backward()
        self._adam_d.step()
        self._adam_d.zero_grad()
        return adversarial, class_loss, r1

    def _gradient_penalty(self, real: Tensor) -> Tensor:
        """Weighted R1, multiplied by its interval."""
        real = real.detach().requires_grad_()
        with self._autocast():
            score, _ = self.d(real)
        (gradient,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        penalty = 0.5 * (gradient**2).sum((1, 2, 3))
        return self.settings.r1_weight * self.settings.r1_interval * penalty.mean()

    def _update_generator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        """Adversarial loss, class loss and diversity loss; neither is augmented."""
        self.d.requires_grad_(not self._tuned)
        with self._autocast():
            augmented = self._augment(fake, self.settings)
            score, logits = (x.float() for x in self._discriminate(augmented))
        adversarial = (0.5 * (score - 1) ** 2).mean()
        class_loss = F.cross_entropy(logits, self._label)
        mismatch = diversity(real, fake, self.settings)
        total = adversarial + self.settings.class_weight_g * class_loss
        (total + self.settings.diversity_weight * mismatch).backward()
        self._adam_g.step()
        self._adam_g.zero_grad()
        self._adam_d.zero_grad()
        self.d.requires_grad_(True)
        return adversarial, class_loss, mismatch

    @torch.inference_mode()
    def sample(self, count: int) -> np.ndarray:
        """Images of one batch; not compiled, or each size would be compiled again."""
        label = torch.arange(count) % self.settings.num_classes
        with self._autocast():
            image = self.g(torch.randn(count, self.settings.latent_size), label)
        return (image.float() * 0.5 + 0.5).permute(0, 2, 3, 1).numpy()


def build(settings: Settings, cores: int, **options: bool) -> TorchBaseline:
    """The program on one thread per core; options: tuned, compiled, bfloat16."""
    torch.set_num_threads(cores)
    torch.manual_seed(0)
    return TorchBaseline(settings, **options)
