"""The conditional generator: noise and pathology in, a radiograph out."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.models.backend import stored
from cxr_gan.models.convolution import Conv1x1, Conv3x3
from cxr_gan.models.layers import (
    AdaptiveLayerNorm,
    blur,
    checkerboard,
    pixel_shuffle,
    tanh,
    upsample,
)


class UpBlock(nn.Module):
    """Doubles height and width, steered by noise and label in two adaptive norms."""

    features: int
    dtype: Any = jnp.float32  # of the arithmetic; weights and norms stay float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """x [n, h, w, c], condition [n, d] -> [n, 2h, 2w, features]."""
        wide = {"features": self.features, "dtype": self.dtype}
        skip = Conv1x1(**wide, name="skip")(x)
        h = nn.relu(AdaptiveLayerNorm(name="norm_in")(x, condition))
        h = upsample(Conv3x3(**wide, name="conv_in")(h))
        h = nn.relu(AdaptiveLayerNorm(name="norm_out")(h, condition))
        h = Conv3x3(**wide, name="conv_out")(h)
        return upsample(skip) + h


class Head(nn.Module):
    """Two readings of the same features, added: a smooth image, and its fine detail.

    The smooth one is blurred, so that no checkerboard is there to be unlearnt; but a
    blur also takes the grain of a radiograph. The detail is not: of its checkerboard a
    quarter is left, and it starts at zero.
    Always in float32: bfloat16 would tell apart but 128 greys of the brighter half.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> float32 [n, 2h, 2w, 1]."""
        x = x.astype(jnp.float32)
        smooth = Conv3x3(4, name="smooth")(x)
        fine = nn.leaky_relu(Conv3x3(16, name="fine")(x), 0.2)
        fine = pixel_shuffle(Conv3x3(4, name="detail")(fine))
        gain = self.param("gain", nn.initializers.zeros, (1,))
        fine = gain * (fine - 0.75 * checkerboard(fine))
        return blur(pixel_shuffle(smooth)) + fine


class Generator(nn.Module):
    """A residual generator with nothing but a pixel shuffle at full resolution.

    widths: features at 4, 8, ... resolution / 2 pixels; a block leads to each but the
    first. So the resolution is 4 * 2 ** len(widths).
    """

    num_classes: int
    widths: tuple[int, ...]
    embedding: int  # numbers that stand for one class
    dtype: Any = jnp.float32  # of the arithmetic; weights, norms, head stay float32

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array, told: jax.Array | float = 1
    ) -> jax.Array:
        """z float32 [n, latent] of N(0, 1), label int32 [n] -> [n, s, s, 1] in [-1, 1].

        told: how much of the label it is told, from 0, where it draws without, to 1.

        A label of num_classes or above gives NaN; who samples guards against others.
        """
        scale = nn.initializers.normal(1.0)
        pathology = nn.Embed(self.num_classes, self.embedding, embedding_init=scale)
        condition = jnp.concatenate([z, told * pathology(label)], -1)
        x = nn.Dense(16 * self.widths[0], name="stem")(condition)
        x = x.reshape(-1, 4, 4, self.widths[0]).astype(stored(self.dtype))
        for features in self.widths[1:]:
            x = UpBlock(features, self.dtype)(x, condition)
        x = nn.relu(AdaptiveLayerNorm(name="norm")(x, condition))
        return tanh(Head(name="head")(x))
