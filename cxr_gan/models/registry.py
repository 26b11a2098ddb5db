"""The network architectures by name, and the configuration that builds a generator."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.models.discriminator import Discriminator
from cxr_gan.models.generator import Generator


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """All that is needed to build a generator; hashable, stored beside params."""

    name: str  # key of GENERATORS
    resolution: int  # pixels a side
    latent_size: int
    class_names: tuple[str, ...]  # index = label
    features_at_32: int
    max_features: int
    class_embedding_dim: int
    # Pixels a side of the smallest image that has a head of its own; 0 = resolution.
    base_resolution: int = 0

    def build(self, compute_dtype: str = "float32") -> nn.Module:
        """The module: apply({"params": params}, z [n, latent], label [n])."""
        return GENERATORS[self.name](
            num_classes=len(self.class_names),
            channels=channels_per_stage(
                self.resolution, self.features_at_32, self.max_features
            ),
            class_embedding_dim=self.class_embedding_dim,
            dtype=jnp.dtype(compute_dtype),
            num_heads=num_sizes(self.resolution, self.base_resolution),
        )


def build_discriminator(
    name: str,
    *,
    resolution: int,
    base_resolution: int,
    features_at_32: int,
    max_features: int,
    num_classes: int,
    group_size: int,
    compute_dtype: str = "float32",
) -> nn.Module:
    """The module: apply({"params": params}, image [n, s, s, 1]).

    n is a multiple of group_size; classes are interleaved (see `group_deviation`).
    """
    channels = channels_per_stage(resolution, features_at_32, max_features)
    return DISCRIMINATORS[name](
        num_classes=num_classes,
        channels=channels[::-1],
        group_size=group_size,
        dtype=jnp.dtype(compute_dtype),
        num_stems=num_sizes(resolution, base_resolution),
    )


def num_sizes(resolution: int, base_resolution: int) -> int:
    """Number of image sizes from base_resolution to resolution; 1 if it is 0."""
    return (resolution // (base_resolution or resolution)).bit_length()


def channels_per_stage(
    resolution: int, features_at_32: int, max_features: int
) -> tuple[int, ...]:
    """Channels at 4, 8, ... resolution / 2 pixels.

    features_at_32 * 32 / side, at most max_features.
    """
    sizes = (2**i for i in range(2, resolution.bit_length() - 1))
    return tuple(min(max_features, features_at_32 * 32 // size) for size in sizes)


# To add an architecture, write one class in models/ and add it here.
GENERATORS = {"resnet": Generator}
DISCRIMINATORS = {"resnet": Discriminator}
