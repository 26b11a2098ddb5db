"""The discriminator: scores how real a radiograph is, and predicts its class."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.models import cpu
from cxr_gan.models.conv import Conv1x1, Conv3x3
from cxr_gan.models.layers import (
    LayerNorm,
    checkerboard,
    downsample,
    group_deviation,
    pixel_unshuffle,
)


class DiscriminatorOutput(NamedTuple):
    """Scores and class logits of n images."""

    score: jax.Array  # float32 [n]; larger is more realistic; see losses.ADVERSARIAL
    class_logits: jax.Array  # float32 [n, num_classes]


class DownBlock(nn.Module):
    """Residual block that halves height and width, with or without LayerNorm."""

    features: int
    norm: bool
    dtype: Any = jnp.float32  # compute dtype; parameters and norms stay float32
    starts_at_zero: bool = False  # whether the output is 0 at initialisation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h / 2, w / 2, features]."""
        conv: dict[str, Any] = {"features": self.features, "dtype": self.dtype}
        if self.starts_at_zero:
            conv["kernel_init"] = nn.initializers.zeros
        skip = Conv1x1(**conv, name="skip")(downsample(x))
        h = LayerNorm(name="norm_in")(x) if self.norm else x
        h = Conv3x3(x.shape[-1], self.dtype, name="conv_in")(nn.leaky_relu(h, 0.2))
        h = LayerNorm(name="norm_out")(h) if self.norm else h
        h = downsample(nn.leaky_relu(h, 0.2))
        return (skip + Conv3x3(**conv, name="conv_out")(h)) * 0.5**0.5


def max_checkerboard_gain(size: int) -> float:
    """Largest factor on the checkerboard of an image of size x size pixels."""
    return min(size, 64) / 8


class Discriminator(nn.Module):
    """Residual discriminator without a convolution at full resolution.

    `channels` holds the channels at resolution / 2, ... 8, 4 pixels; a DownBlock leads
    to every stage but the first. The first block has no norm, which would remove the
    brightness of the image.

    With several stems, each of the first stages has one. A later stem reads the image
    downsampled to its size. Its output is added to that of the preceding block, which
    has no norm and is zero-initialised. A discriminator that starts from the parameters
    of a smaller one therefore gives the same scores for downsampled images.

    The finest checkerboard of the input is amplified up to eightfold (fourfold at 32
    pixels): radiographs have so little of it that the discriminator otherwise overlooks
    20 times the power in generated images.
    """

    num_classes: int
    channels: tuple[int, ...]
    group_size: int  # consecutive examples, classes interleaved; see group_deviation
    dtype: Any = jnp.float32  # compute dtype; parameters, norms, stem, outputs: float32
    num_stems: int = 1

    @nn.compact
    def __call__(
        self, image: jax.Array, checkerboard_ramp: jax.Array | float = 1
    ) -> DiscriminatorOutput:
        """image float32 [n, s, s, 1] in [-1, 1] -> outputs of n images.

        checkerboard_ramp: from 0, where the checkerboard is not amplified, to 1, where
        it is amplified in full.
        """
        dtype = cpu.activation_dtype(self.dtype)
        x: jax.Array | None = None
        for stage, width in enumerate(self.channels):
            if x is not None:
                norm, added = stage > self.num_stems, stage < self.num_stems
                x = DownBlock(width, norm, self.dtype, starts_at_zero=added)(x)
            if stage >= self.num_stems:
                continue
            image = image if x is None else downsample(image)
            max_gain = max_checkerboard_gain(image.shape[1])
            seen = image + checkerboard_ramp * (max_gain - 1) * checkerboard(image)
            name = "stem" if x is None else f"stem_{image.shape[1]}"
            y = Conv3x3(width, name=name)(pixel_unshuffle(seen)).astype(dtype)
            x = y if x is None else x + y
        x = LayerNorm(name="norm")(cast(jax.Array, x))
        x = Conv3x3(self.channels[-1], self.dtype, name="mix")(
            group_deviation(x, self.group_size, self.num_classes)
        )
        features = nn.leaky_relu(x, 0.2).astype(jnp.float32).mean((1, 2))
        # Both names are keys of published weights and seed the layers' initialisation.
        score = nn.Dense(1, name="realness")(features)[:, 0]
        class_logits = nn.Dense(self.num_classes, name="pathology")(features)
        return DiscriminatorOutput(score, class_logits)
