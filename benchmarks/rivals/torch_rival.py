"""The round of cxr_gan in PyTorch, channels last. Images here are [n, 1, s, s].

One forward pass of G for both turns. Tuned by hand: real and generated images judged in
one batch, D frozen in G's turn, fused Adam. As tutorials write it: D judges them one
after the other, G's turn leaves slopes in D that nobody uses, and Adam is the default.
"""

import contextlib
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rivals.rules import Rules
from benchmarks.rivals.torch_networks import LAST, Discriminator, Generator

AFAR = 16  # pixels a side, at which images are compared for sameness


def augment(image: Tensor, rules: Rules) -> Tensor:
    """As cxr_gan.augment: brightness, contrast, cutout, translation."""
    n, _, size, _ = image.shape
    image = image + rules.brightness * (torch.rand(n, 1, 1, 1) - 0.5)
    mean = image.mean((1, 2, 3), keepdim=True)
    factor = 1 + rules.contrast * (2 * torch.rand(n, 1, 1, 1) - 1)
    image = (image - mean) * factor + mean
    place, side = torch.arange(size), round(rules.cutout * size)
    first = torch.randint(0, size + 1 - side % 2, (2, n, 1)) - side // 2
    row, column = (first <= place) & (place < first + side)
    image = image * ~(row[:, :, None] & column[:, None, :])[:, None]
    reach = round(rules.translation * size)
    by = torch.randint(-reach, reach + 1, (2, n, 1, 1))
    rows, columns = (place[:, None] == place + by).to(image.dtype)
    return (rows @ image[:, 0] @ columns.transpose(1, 2))[:, None]


def sameness(real: Tensor, fake: Tensor, rules: Rules) -> Tensor:
    """As cxr_gan.terms.repetition, without its weight."""

    def spread(x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, x.shape[-1] // min(AFAR, x.shape[-1]))
        x = F.group_norm(x, 1)[:, 0]
        mates = x.reshape(
            -1, rules.group // rules.num_classes, rules.num_classes, *x[0].shape
        )
        return (mates - mates.roll(1, 1)).abs().mean((1, 3, 4))

    a, b = spread(real), spread(fake)
    return ((2 * (a - b) / (a + b + 1e-6)) ** 2).mean()


class Losses(NamedTuple):
    """Of one round, unweighted; [] each. The penalty is 0 where it was not due."""

    adversarial_d: Tensor
    class_d: Tensor
    penalty: Tensor
    adversarial_g: Tensor
    class_g: Tensor
    sameness: Tensor


class TorchRival:
    """Both players, their optimizers, and one round of the game."""

    def __init__(
        self,
        rules: Rules,
        tuned: bool = True,
        compiled: bool = False,
        bfloat16: bool = False,
    ):
        self.rules, self._step = rules, 0
        self._tuned, self._bfloat16 = tuned, bfloat16
        self.g = Generator(rules).to(memory_format=LAST)
        self.d = Discriminator(rules).to(memory_format=LAST)
        self._ema = [p.detach().clone() for p in self.g.parameters()]
        # Second derivatives do not go through what is compiled: R1 asks `self.d`.
        known: Any = torch.compile if compiled else lambda module: module
        self._draw, self._judge, self._augment = map(known, (self.g, self.d, augment))
        self._adam_g, self._adam_d = (self._adam(m) for m in (self.g, self.d))
        image, label = rules.batch()
        self._image = torch.from_numpy(image).permute(0, 3, 1, 2)
        self._label = torch.from_numpy(label.astype(np.int64))

    def _adam(self, player: nn.Module) -> torch.optim.Optimizer:
        betas = (self.rules.beta1, self.rules.beta2)
        rate = self.rules.learning_rate
        fused = True if self._tuned else None
        return torch.optim.Adam(player.parameters(), rate, betas, fused=fused)

    def play(self, rounds: int) -> None:
        """Eager, so each is done when it returns."""
        for _ in range(rounds):
            self.round(torch.randn(self.rules.batch_size, self.rules.latent_size))

    def round(self, z: Tensor) -> Losses:
        """D's turn, G's turn, the average; z [n, latent]."""
        with self._precision():
            real = self._image.float() / 127.5 - 1
            shown = self._augment(real, self.rules)
            fake = self._draw(z, self._label).float()
        of_d = self._turn_of_d(shown, fake.detach())
        of_g = self._turn_of_g(real, fake)
        with torch.no_grad():
            weights = list(self.g.parameters())
            torch._foreach_lerp_(self._ema, weights, 1 - self.rules.ema_keep)
        self._step += 1
        return Losses(*of_d, *of_g)

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        """Around forward passes alone: it keeps a copy of weights until it ends."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16)

    def _turn_of_d(self, shown: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        with self._precision():
            other = self._augment(fake, self.rules)
            if self._tuned:
                realness, logits = self._judge(torch.cat([shown, other]))
                (on_real, on_fake), logits = realness.chunk(2), logits[: len(shown)]
            else:
                (on_real, logits), (on_fake, _) = map(self._judge, (shown, other))
        on_real, on_fake, logits = on_real.float(), on_fake.float(), logits.float()
        adversarial = (0.5 * (on_real - 1) ** 2 + 0.5 * on_fake**2).mean()
        classes = F.cross_entropy(logits, self._label)
        (adversarial + self.rules.class_weight_d * classes).backward()
        penalty = torch.zeros(())
        if self._step % self.rules.r1_every == 0:
            penalty = self._penalty(shown)
            penalty.backward()
        self._adam_d.step()
        self._adam_d.zero_grad()
        return adversarial, classes, penalty

    def _penalty(self, shown: Tensor) -> Tensor:
        shown = shown.detach().requires_grad_()
        with self._precision():
            realness, _ = self.d(shown)
        (slope,) = torch.autograd.grad(realness.sum(), shown, create_graph=True)
        each = 0.5 * (slope**2).sum((1, 2, 3))
        return self.rules.r1_weight * self.rules.r1_every * each.mean()

    def _turn_of_g(self, real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        self.d.requires_grad_(not self._tuned)
        with self._precision():
            shown = self._augment(fake, self.rules)
            realness, logits = (x.float() for x in self._judge(shown))
        adversarial = (0.5 * (realness - 1) ** 2).mean()
        classes = F.cross_entropy(logits, self._label)
        same = sameness(real, fake, self.rules)
        total = adversarial + self.rules.class_weight_g * classes
        (total + self.rules.sameness_weight * same).backward()
        self._adam_g.step()
        self._adam_g.zero_grad()
        self._adam_d.zero_grad()
        self.d.requires_grad_(True)
        return adversarial, classes, same

    @torch.inference_mode()
    def sample(self, count: int) -> np.ndarray:
        """All in one batch, not compiled: each size would be another compilation."""
        label = torch.arange(count) % self.rules.num_classes
        with self._precision():
            image = self.g(torch.randn(count, self.rules.latent_size), label)
        return (image.float() * 0.5 + 0.5).permute(0, 2, 3, 1).numpy()


def build(rules: Rules, cores: int, **options: bool) -> TorchRival:
    """On so many threads. options: tuned, compiled, bfloat16."""
    torch.set_num_threads(cores)
    torch.manual_seed(0)
    return TorchRival(rules, **options)
