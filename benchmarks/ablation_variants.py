"""The variants of the ablation: the default recipe with one part changed in each.

A variant is a few values of the configuration. Where one names a network that is not
part of the library, the network is in `GENERATORS` or `DISCRIMINATORS` below: the
library's network, traced with one of its layers replaced.
"""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from cxr_gan.models import discriminator, generator, layers, registry
from cxr_gan.models.discriminator import Discriminator
from cxr_gan.models.generator import Generator

Changes = Mapping[str, Any]  # dotted key of the configuration -> value


def altered(
    network: type[nn.Module], where: Any, **replacements: Any
) -> type[nn.Module]:
    """The network, traced with these names of the module `where` replaced."""

    # mypy does not support a base class that is an argument.
    class Altered(network):  # type: ignore[misc, valid-type]
        def __call__(self, *inputs: jax.Array) -> Any:
            with mock.patch.multiple(where, **replacements):
                return super().__call__(*inputs)

    return Altered


def affine(
    x: jax.Array, scale: jax.Array | float = 1.0, bias: jax.Array | float = 0.0
) -> jax.Array:
    """Replaces `layers.normalize`: only scale and bias of the norm remain."""
    return x.astype(jnp.float32) * scale + bias


def no_group_deviation(x: jax.Array, group_size: int, num_classes: int) -> jax.Array:
    """Replaces `layers.group_deviation`: D scores each image independently."""
    return x


def unchanged(x: jax.Array, power: int = 1) -> jax.Array:
    """Replaces `layers.emphasize`."""
    return x


def silence(z: jax.Array, size: int) -> jax.Array:
    """Replaces `layers.noise_of_latent`."""
    return jnp.zeros((len(z), size, size, 1))


NO_DEVIATION = {"group_deviation": no_group_deviation}
NO_EMPHASIS = {"emphasize": unchanged}
GENERATORS = {
    "no norm": altered(Generator, layers, normalize=affine),
    "no emphasis": altered(Generator, generator, **NO_EMPHASIS),
    "no noise": altered(Generator, generator, noise_of_latent=silence),
}
DISCRIMINATORS = {
    "no norm": altered(Discriminator, layers, normalize=affine),
    "no emphasis": altered(Discriminator, discriminator, **NO_EMPHASIS),
    "no deviation": altered(Discriminator, discriminator, **NO_DEVIATION),
    "plain": altered(Discriminator, discriminator, **NO_EMPHASIS, **NO_DEVIATION),
}

DIFF_AUGMENT = {
    "augment.brightness": 0.2,
    "augment.contrast": 0.2,
    "augment.translation": 0.1,
    "augment.cutout": 0.2,
}
NO_EMA = {"ema_rampup": 1e-6}  # half-life near 0
DEFAULT = "default"
VARIANTS: dict[str, Changes] = {
    DEFAULT: {},
    # Networks with LayerNorm, and the adversarial and class losses only.
    "plain LSGAN-ACGAN with LayerNorm": {
        "generator.name": "no emphasis",
        "discriminator.name": "plain",
        "loss.diversity_weight": 0.0,
        "loss.spectrum_weight": 0.0,
        "loss.r1_weight": 0.0,
        "balance.enabled": False,
        **NO_EMA,
    },
    "no diversity loss": {"loss.diversity_weight": 0.0},
    "no group deviation": {"discriminator.name": "no deviation"},
    "no balance controller": {"balance.enabled": False},
    "no R1": {"loss.r1_weight": 0.0},
    "no EMA": NO_EMA,
    "no learning rate decay": {"lr_decay_fraction": 0.0},
    "no emphasis": {
        "generator.name": "no emphasis",
        "discriminator.name": "no emphasis",
    },
    "no noise": {"generator.name": "no noise"},
    "no spectrum loss": {"loss.spectrum_weight": 0.0},
    "G without norm": {"generator.name": "no norm"},
    "D without norm": {"discriminator.name": "no norm"},
    "class loss of D on real and generated images": {"loss.class_loss": "both"},
    "hinge": {"loss.adversarial": "hinge"},
    "logistic": {"loss.adversarial": "logistic"},
    "relativistic": {"loss.adversarial": "relativistic"},
    "relativistic with R2": {"loss.adversarial": "relativistic", "loss.r2_weight": 0.1},
    "beta1 0.5": {"optimizer_d.beta1": 0.5, "optimizer_g.beta1": 0.5},
    "DiffAugment": DIFF_AUGMENT,
    "adaptive DiffAugment": {**DIFF_AUGMENT, "augment.adaptive": True},
    "bfloat16": {"compute_dtype": "bfloat16"},
}


def register() -> None:
    """Adds the networks above to the registry, in this process."""
    registry.GENERATORS.update(GENERATORS)
    registry.DISCRIMINATORS.update(DISCRIMINATORS)


def apply_variant(variant: str, config: ConfigDict) -> ConfigDict:
    """A copy of the configuration with the changes of a variant."""
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(dict(VARIANTS[variant]))
    return changed
