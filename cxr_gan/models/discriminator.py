"""The discriminator: scores how real a radiograph is, and predicts its class."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.models import cpu
from cxr_gan.models.conv import Conv1x1, Conv3x3
from cxr_gan.models.layers import LayerNorm, downsample, emphasize, group_deviation

STEM_CHANNELS = 8  # at the resolution of the image


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


class Stem(nn.Module):
    """Block at full resolution without norm, which would remove the brightness."""

    features: int
    dtype: Any = jnp.float32  # compute dtype of the block; the convolution is float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """image float32 [n, s, s, 1] -> [n, s / 2, s / 2, features]."""
        x = Conv3x3(STEM_CHANNELS, name="image")(emphasize(image))
        x = x.astype(cpu.activation_dtype(self.dtype))
        return DownBlock(self.features, False, self.dtype, name="block")(x)


class Discriminator(nn.Module):
    """Residual discriminator; a stem leads from the image to half of its resolution.

    `channels` holds the channels at resolution / 2, ... 8, 4 pixels; a DownBlock leads
    to every stage but the first. Neither the stem nor the first block has a norm.
    Blocks and stems are named by the size of their input in pixels: `block_32`.

    With several stems, each of the first stages has one. A later stem reads the image
    downsampled to its size. Its output is added to that of the preceding block, which
    has no norm and is zero-initialised. A discriminator that starts from the parameters
    of a smaller one therefore gives the same scores for downsampled images.
    """

    num_classes: int
    channels: tuple[int, ...]
    group_size: int  # consecutive examples, classes interleaved; see group_deviation
    dtype: Any = jnp.float32  # compute dtype; parameters, norms, outputs: float32
    num_stems: int = 1

    @nn.compact
    def __call__(self, image: jax.Array) -> DiscriminatorOutput:
        """image float32 [n, s, s, 1] in [-1, 1] -> outputs of n images."""
        side = image.shape[1]
        x = Stem(self.channels[0], self.dtype, name=f"stem_{side}")(image)
        for stage, width in enumerate(self.channels[1:], 1):
            side //= 2
            norm, added = stage > self.num_stems, stage < self.num_stems
            x = DownBlock(width, norm, self.dtype, added, name=f"block_{side}")(x)
            if added:
                image = downsample(image)
                x = x + Stem(width, self.dtype, name=f"stem_{side}")(image)
        x = LayerNorm(name="norm")(x)
        x = Conv3x3(self.channels[-1], self.dtype, name="mix")(
            group_deviation(x, self.group_size, self.num_classes)
        )
        features = nn.leaky_relu(x, 0.2).astype(jnp.float32).mean((1, 2))
        # Both names are keys of published weights and seed the layers' initialisation.
        score = nn.Dense(1, name="realness")(features)[:, 0]
        class_logits = nn.Dense(self.num_classes, name="pathology")(features)
        return DiscriminatorOutput(score, class_logits)
