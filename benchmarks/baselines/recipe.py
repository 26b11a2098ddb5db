"""A common PyTorch recipe, trained on the same images at 64 x 64 pixels.

    pip install -e ".[bench]"
    python -m benchmarks.baselines.recipe --dataset=path/to/chest_xray --out=runs/recipe

Least-squares loss and a class output; G with transposed convolutions, D with strided
convolutions and spectral normalisation; DiffAugment; Adam; bfloat16. It runs on one
thread. Every --keep_kimg, and at the end, it writes 2,000 images of the EMA generator
to OUT/KIMG.npz, in the format that `python -m cxr_gan.evaluate --images=` reads, and
the CPU time so far to OUT/recipe.json.

Sources: Mao et al. 2017, "Least Squares GANs"; Odena et al. 2017, "Auxiliary Classifier
GANs"; Miyato et al. 2018, "Spectral Normalization for GANs"; Zhao et al. 2020,
"Differentiable Augmentation for Data-Efficient GAN Training" (strengths as published).
"""

import json
import math
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tqdm
from absl import app, flags
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.baselines.torch_baseline import augment
from cxr_gan import data
from cxr_gan.data import pipeline
from cxr_gan.storage import files

RESOLUTION, LATENT, EMBEDDING, GROUPS = 64, 128, 64, 8
UP, DOWN = (256, 128, 64, 32), (32, 64, 128, 256)  # channels from 4 px, and from 32 px
BATCH, RATE, BETAS, EMA = 32, 3e-4, (0.0, 0.99), 0.998
CLASS_D, CLASS_G = 1.0, 0.5  # class loss weights: D on real, G on generated images
NUM_IMAGES = 2_000  # in each .npz, equally many of each class


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


def save_images(recipe: Recipe, out: pathlib.Path, kimg: float) -> None:
    """Writes images and labels to OUT/KIMG.npz."""
    labels = np.arange(NUM_IMAGES, dtype=np.int32) % recipe.num_classes
    with files.atomic_write(out / f"{kimg:03.0f}.npz") as path, path.open("wb") as file:
        np.savez_compressed(file, images=recipe.generate(labels, 0), labels=labels)


def train(
    dataset: data.Dataset, out: pathlib.Path, kimg: float, every: float, seed: int
) -> None:
    """Trains and writes the results; CPU seconds cover the training steps only."""
    recipe = Recipe(len(dataset.class_names), seed)
    batches = pipeline.batches(
        dataset.train,
        num_classes=recipe.num_classes,
        batch_size=BATCH,
        samples_per_class=(0,),
        seed=seed,
    )
    save_kimg = [min(k * every, kimg) for k in range(1, math.ceil(kimg / every) + 1)]
    save_steps = [round(1000 * k / BATCH) for k in save_kimg]
    seconds, course = 0.0, []
    for step in tqdm.trange(1, save_steps[-1] + 1, disable=None):
        start = time.process_time()
        batch = next(batches)
        recipe.train_step(batch["image"], batch["label"])
        seconds += time.process_time() - start
        if step in save_steps:
            shown = step * BATCH / 1000
            save_images(recipe, out, shown)
            course.append({"kimg": shown, "cpu_seconds": round(seconds, 1)})
            with files.atomic_write(out / "recipe.json") as path:
                path.write_text(json.dumps({"course": course}, indent=1) + "\n")
            print(f"{shown:g} kimg in {seconds:.0f} s of CPU", flush=True)


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Runs the command; returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        out = pathlib.Path(values.out)
        if out.exists():
            raise FileExistsError(f"{out} already exists; give another --out")
        dataset = data.load(values.dataset, RESOLUTION, split_seed=0)
        out.mkdir(parents=True)
        torch.set_num_threads(1)
        train(dataset, out, values.kimg, values.keep_kimg, values.seed)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags; in a function, so that tests can pass their own values."""
    own = {"flag_values": values}
    flags.DEFINE_string("dataset", None, "Real images, as in config.dataset.", **own)
    flags.DEFINE_string("out", None, "New folder to write to.", **own)
    flags.DEFINE_float("kimg", 250.0, "Thousands of real images shown to D.", 1, **own)
    flags.DEFINE_float("keep_kimg", 50.0, "Interval between files of images.", 1, **own)
    flags.DEFINE_integer("seed", 0, "Seed of weights, latents and batches.", 0, **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """Entry point of the command line."""
    define_flags()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
