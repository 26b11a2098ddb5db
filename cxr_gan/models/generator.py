"""The conditional generator: a latent and a class label -> a radiograph."""

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.models import cpu
from cxr_gan.models.conv import Conv1x1, Conv3x3
from cxr_gan.models.layers import (
    AdaptiveLayerNorm,
    blur,
    checkerboard,
    pixel_shuffle,
    tanh,
    upsample,
)


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
    """Sum of a blurred image and of unblurred fine detail from the same features.

    The blur removes the checkerboards of the pixel shuffle, and with them the fine
    noise of a radiograph. The detail branch restores it: it is not blurred, three
    quarters of its checkerboard are subtracted, and its gain starts at zero. Always
    float32: bfloat16 has only 128 grey levels between 0.5 and 1.
    """

    starts_at_zero: bool = False  # whether the sum is 0 at initialisation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> float32 [n, 2h, 2w, 1]."""
        x = x.astype(jnp.float32)
        zeros, he = nn.initializers.zeros, nn.initializers.he_normal()
        init = zeros if self.starts_at_zero else he
        smooth = Conv3x3(4, kernel_init=init, name="smooth")(x)
        fine = nn.leaky_relu(Conv3x3(16, name="fine")(x), 0.2)
        fine = pixel_shuffle(Conv3x3(4, name="detail")(fine))
        gain = self.param("gain", nn.initializers.zeros, (1,))
        fine = gain * (fine - 0.75 * checkerboard(fine))
        return blur(pixel_shuffle(smooth)) + fine


class Generator(nn.Module):
    """Residual generator without a convolution at full resolution.

    `channels` holds the channels at 4, 8, ... resolution / 2 pixels; an UpBlock leads
    to every stage but the first. The resolution is 4 * 2 ** len(channels).

    With several heads, each of the last stages has one. Its image is added to the
    upsampled image of the preceding stage. All heads but the first are
    zero-initialised, so a generator that starts from the parameters of a smaller one
    generates its images, upsampled.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN",
    section 4.1 (skip generator).
    """

    num_classes: int
    channels: tuple[int, ...]
    class_embedding_dim: int
    dtype: Any = jnp.float32  # compute dtype; parameters, norms and head stay float32
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
            if stage:
                x = UpBlock(features, self.dtype)(x, condition)
            if stage < len(self.channels) - self.num_heads:
                continue
            is_last = stage == len(self.channels) - 1
            suffix = "" if is_last else f"_{2 ** (stage + 3)}"  # pixels of its image
            h = nn.relu(AdaptiveLayerNorm(name=f"norm{suffix}")(x, condition))
            added = Head(starts_at_zero=image is not None, name=f"head{suffix}")(h)
            image = added if image is None else upsample(image) + added
        return tanh(cast(jax.Array, image))
