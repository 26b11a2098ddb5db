"""The discriminator: is a radiograph real, and which pathology does it show?"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.models.backend import stored
from cxr_gan.models.convolution import Conv1x1, Conv3x3
from cxr_gan.models.layers import (
    LayerNorm,
    checkerboard,
    downsample,
    group_deviation,
    pixel_unshuffle,
)


class Judgement(NamedTuple):
    """What D says of n images."""

    realness: jax.Array  # float32 [n]; trained towards 1 for real, 0 for generated
    pathology: jax.Array  # float32 [n, answers * num_classes]; logits
    features: jax.Array  # float32 [n, d]; what both were read off


class DownBlock(nn.Module):
    """Halves height and width; normed or not, its input is what it adds to."""

    features: int
    norm: bool
    dtype: Any = jnp.float32  # of the arithmetic; weights and norms stay float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h / 2, w / 2, features]."""
        wide = {"features": self.features, "dtype": self.dtype}
        skip = Conv1x1(**wide, name="skip")(downsample(x))
        h = LayerNorm(name="norm_in")(x) if self.norm else x
        h = Conv3x3(x.shape[-1], self.dtype, name="conv_in")(nn.leaky_relu(h, 0.2))
        h = LayerNorm(name="norm_out")(h) if self.norm else h
        h = downsample(nn.leaky_relu(h, 0.2))
        return (skip + Conv3x3(**wide, name="conv_out")(h)) * 0.5**0.5


class Discriminator(nn.Module):
    """A residual discriminator with nothing but a pixel unshuffle at full resolution.

    widths: features at resolution / 2, ... 8, 4 pixels; a block leads to each but the
    first. The first block has no norm: it would erase how bright the image is. A
    radiograph has so little of a checkerboard that D would overlook a G's of 20 times
    the power: it sees it eight times as strong, in images of 32 pixels four times.
    """

    num_classes: int
    widths: tuple[int, ...]
    group: int  # consecutive examples, classes interleaved, that D sees together
    answers: int = 1  # for each class, as the loss asks: see losses.CLASSES
    dtype: Any = (
        jnp.float32
    )  # of the arithmetic; weights, norms, stem, answers: float32

    @nn.compact
    def __call__(self, image: jax.Array, sharpness: jax.Array | float = 1) -> Judgement:
        """image float32 [n, s, s, 1] in [-1, 1] -> Judgement of n.

        sharpness: from 0, where D sees the checkerboard as it is, to 1, as above.
        """
        times = min(image.shape[1], 64) / 8
        seen = image + sharpness * (times - 1) * checkerboard(image)
        x = Conv3x3(self.widths[0], name="stem")(pixel_unshuffle(seen))
        x = x.astype(stored(self.dtype))
        for i, width in enumerate(self.widths[1:]):
            x = DownBlock(width, i > 0, self.dtype)(x)
        x = LayerNorm(name="norm")(x)
        x = Conv3x3(self.widths[-1], self.dtype, name="mix")(
            group_deviation(x, self.group, self.num_classes)
        )
        features = nn.leaky_relu(x, 0.2).astype(jnp.float32).mean((1, 2))
        realness = nn.Dense(1, name="realness")(features)[:, 0]
        pathology = nn.Dense(self.answers * self.num_classes, name="pathology")(
            features
        )
        return Judgement(realness, pathology, features)
