"""The conditional generator: a latent and a class label -> a radiograph."""

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.models import cpu
from cxr_gan.models.conv import Conv1x1, Conv3x3
from cxr_gan.models.layers import (
    AdaptiveLayerNorm,
    emphasize,
    noise_of_latent,
    tanh,
    upsample,
)

HEAD_CHANNELS = 16  # at the resolution of the image


class UpBlock(nn.Module):
    """Residual block that doubles height and width, conditioned by two adaptive norms.

    The skip and the first convolution run before the upsampling, on a quarter of the
    pixels.
    """

    features: int
    dtype: Any = jnp.float32  # compute dtype; parameters and norms stay float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """x [n, h, w, c], condition [n, d] -> [n, 2h, 2w, features]."""
        conv = {"features": self.features, "dtype": self.dtype}
        skip = Conv1x1(**conv, name="skip")(x)
        h = nn.relu(AdaptiveLayerNorm(name="norm_in")(x, condition))
        h = upsample(Conv3x3(**conv, name="conv_in")(h))
        h = nn.relu(AdaptiveLayerNorm(name="norm_out")(h, condition))
        h = Conv3x3(**conv, name="conv_out")(h)
        return upsample(skip) + h


class Head(nn.Module):
    """Block at full resolution and a convolution to an image; 0 at initialisation.

    Before the last convolution, each channel is multiplied by 1 + gain * noise (see
    `noise_of_latent`). The gains are learned, and 0 at initialisation. The last
    convolution is always float32: bfloat16 has only 128 grey levels between 0.5 and 1.
    """

    dtype: Any = jnp.float32  # compute dtype of the block

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, z: jax.Array) -> jax.Array:
        """x [n, h, w, c], condition [n, d], z [n, latent] -> float32 [n, 2h, 2w, 1]."""
        x = UpBlock(HEAD_CHANNELS, self.dtype, name="block")(x, condition)
        x = nn.relu(AdaptiveLayerNorm(name="norm")(x, condition)).astype(jnp.float32)
        gain = self.param("noise_gain", nn.initializers.zeros, (HEAD_CHANNELS,))
        x = x * (1 + gain * noise_of_latent(z, x.shape[1]))
        image = Conv3x3(1, kernel_init=nn.initializers.zeros, name="image")(x)
        return emphasize(image, power=-1)


class Generator(nn.Module):
    """Residual generator; a head leads from half of the resolution to the image.

    `channels` holds the channels at 4, 8, ... resolution / 2 pixels; an UpBlock leads
    to every stage but the first. The resolution is 4 * 2 ** len(channels). Blocks and
    heads are named by the size of their output in pixels: `block_32`, `head_64`.

    With several heads, each of the last stages has one. Its image is added to the
    upsampled image of the preceding stage. Heads are zero-initialised, so a generator
    that starts from the parameters of a smaller one generates its images, upsampled.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN",
    section 4.1 (skip generator).
    """

    num_classes: int
    channels: tuple[int, ...]
    class_embedding_dim: int
    dtype: Any = jnp.float32  # compute dtype; parameters, norms and image stay float32
    num_heads: int = 1

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array) -> jax.Array:
        """z float32 [n, latent] of N(0, 1), label int32 [n] -> [n, s, s, 1] in [-1, 1].

        A label of num_classes or above gives NaN; callers check for negative labels.
        """
        scale = nn.initializers.normal(1.0)
        embed = nn.Embed(
            self.num_classes, self.class_embedding_dim, embedding_init=scale
        )
        condition = jnp.concatenate([z, embed(label)], -1)
        x = nn.Dense(16 * self.channels[0], name="stem")(condition)
        x = x.reshape(-1, 4, 4, self.channels[0]).astype(
            cpu.activation_dtype(self.dtype)
        )
        image: jax.Array | None = None
        for stage, features in enumerate(self.channels):
            side = 4 * 2**stage
            if stage:
                x = UpBlock(features, self.dtype, name=f"block_{side}")(x, condition)
            if stage >= len(self.channels) - self.num_heads:
                added = Head(self.dtype, name=f"head_{2 * side}")(x, condition, z)
                image = added if image is None else upsample(image) + added
        return tanh(cast(jax.Array, image))
