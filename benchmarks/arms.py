"""The variants of the ablation: the published recipe with one thing changed in each.

A variant is a few values of the configuration. Where one names a network that is not
part of the library, the network is in `GENERATORS` or `DISCRIMINATORS` below: most are
the library's network, traced with one of its layers replaced.
"""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from cxr_gan.models import discriminator, generator, layers, registry
from cxr_gan.models.conv import Conv3x3
from cxr_gan.models.discriminator import Discriminator, DiscriminatorOutput
from cxr_gan.models.generator import Generator

GROUPS = 8  # channel groups of group norm
ITERATIONS = 8  # of the power method

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


def group_norm(
    x: jax.Array, scale: jax.Array | float = 1.0, bias: jax.Array | float = 0.0
) -> jax.Array:
    """Replaces `layers.normalize`: x [n, h, w, c], in GROUPS groups of channels.

    Source: Wu & He 2018, "Group Normalization", section 3.
    """
    n, h, w, c = x.shape
    groups = x.astype(jnp.float32).reshape(n, h * w, GROUPS, c // GROUPS)
    mean = groups.mean((1, 3), keepdims=True)
    variance = (groups * groups).mean((1, 3), keepdims=True) - mean * mean
    gain = jax.lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-5)
    return ((groups - mean) * gain).reshape(n, h, w, c) * scale + bias


def no_group_deviation(x: jax.Array, group_size: int, num_classes: int) -> jax.Array:
    """Replaces `layers.group_deviation`: D scores each image independently."""
    return x


def spectral_norm(kernel: jax.Array) -> jax.Array:
    """A kernel over the largest singular value of its [inputs, outputs] matrix.

    Source: Miyato et al. 2018, "Spectral Normalization for Generative Adversarial
    Networks", section 2.1. The power method starts from the same vector in each call,
    so D has no state.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    constant = jax.lax.stop_gradient(matrix)
    right = jnp.ones(matrix.shape[-1])
    for _ in range(ITERATIONS):
        left = constant @ right
        right = constant.T @ (left / (jnp.linalg.norm(left) + 1e-12))
    left = left / (jnp.linalg.norm(left) + 1e-12)
    right = right / (jnp.linalg.norm(right) + 1e-12)
    return kernel / (left @ matrix @ right + 1e-12)


def with_spectral_norm(params: Any) -> Any:
    """Params with `spectral_norm` applied to every kernel."""
    return jax.tree.map(lambda p: spectral_norm(p) if p.ndim > 1 else p, params)


class Projection(Discriminator):
    """Adds to the score how well an image fits its class; needs no class loss.

    The class follows from an example's position: classes are interleaved in a batch.

    Source: Miyato & Koyama 2018, "cGANs with Projection Discriminator", eq. 3.
    """

    @nn.compact
    def __call__(
        self, image: jax.Array, checkerboard_ramp: jax.Array | float = 1
    ) -> DiscriminatorOutput:
        """As `Discriminator`."""
        body = Discriminator(
            self.num_classes,
            self.channels,
            self.group_size,
            self.dtype,
            name="body",
        )
        output = body(image, checkerboard_ramp)
        project = nn.Dense(self.num_classes, use_bias=False, name="projection")
        label = jnp.arange(len(image)) % self.num_classes
        fit = jnp.take_along_axis(project(output.features), label[:, None], 1)[:, 0]
        return output._replace(score=output.score + fit)


class Smooth(nn.Module):
    """`generator.Head` without the detail branch."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> float32 [n, 2h, 2w, 1]."""
        smooth = Conv3x3(4, name="smooth")(x.astype(jnp.float32))
        return layers.blur(layers.pixel_shuffle(smooth))


GENERATORS = {
    "no norm": altered(Generator, layers, normalize=affine),
    "group norm": altered(Generator, layers, normalize=group_norm),
    "no detail": altered(Generator, generator, Head=Smooth),
}
_Spectral = nn.map_variables(Discriminator, "params", with_spectral_norm, init=True)
DISCRIMINATORS = {
    "no norm": altered(Discriminator, layers, normalize=affine),
    "group norm": altered(Discriminator, layers, normalize=group_norm),
    "no checkerboard gain": altered(
        Discriminator, discriminator, checkerboard=jnp.zeros_like
    ),
    "no deviation": altered(
        Discriminator, discriminator, group_deviation=no_group_deviation
    ),
    "plain": altered(
        Discriminator,
        discriminator,
        group_deviation=no_group_deviation,
        checkerboard=jnp.zeros_like,
    ),
    "spectral": _Spectral,
    "spectral, no norm": altered(_Spectral, layers, normalize=affine),
    "projection": Projection,
}

DIFF_AUGMENT = {
    "augment.brightness": 0.2,
    "augment.contrast": 0.2,
    "augment.translation": 0.1,
    "augment.cutout": 0.2,
}
NO_EMA = {"ema_rampup": 1e-6}  # half-life near 0
ADAPTIVE = "adaptive DiffAugment"
DEFAULT, PLAIN = "as published", "plain LSGAN-ACGAN with LayerNorm"
VARIANTS: dict[str, Changes] = {
    DEFAULT: {},
    # The original project: networks with LayerNorm, adversarial and class loss only.
    PLAIN: {
        "generator.name": "no detail",
        "discriminator.name": "plain",
        "loss.diversity_weight": 0.0,
        "loss.r1_weight": 0.0,
        "balance.enabled": False,
        **NO_EMA,
    },
    "no diversity loss": {"loss.diversity_weight": 0.0},
    "diversity loss three times": {"loss.diversity_weight": 3.0},
    "no group deviation": {"discriminator.name": "no deviation"},
    "no balance controller": {"balance.enabled": False},
    "DiffAugment": DIFF_AUGMENT,
    "DiffAugment, exposure only": {"augment.brightness": 0.2, "augment.contrast": 0.2},
    "DiffAugment, geometry only": {"augment.translation": 0.1, "augment.cutout": 0.2},
    ADAPTIVE: {**DIFF_AUGMENT, "augment.adaptive": True},
    "no R1": {"loss.r1_weight": 0.0},
    "R1 a fifth": {"loss.r1_weight": 0.02},
    "R1 five times": {"loss.r1_weight": 0.5},
    "no EMA": NO_EMA,
    "no learning rate decay": {"lr_decay_fraction": 0.0},
    "EMA three times as long": {"ema_rampup": 0.15, "ema_halflife_kimg": 30.0},
    "no detail branch in G": {"generator.name": "no detail"},
    "no checkerboard gain in D": {"discriminator.name": "no checkerboard gain"},
    "checkerboard gain not ramped": {"checkerboard_ramp": 0.0},
    "class losses doubled": {"loss.class_weight.d": 1.0, "loss.class_weight.g": 0.8},
    "class loss of D on real and generated images": {"loss.class_loss": "both"},
    "projection instead of class losses": {
        "discriminator.name": "projection",
        "loss.class_weight.d": 0.0,
        "loss.class_weight.g": 0.0,
    },
    "hinge": {"loss.adversarial": "hinge"},
    "logistic": {"loss.adversarial": "logistic"},
    "relativistic": {"loss.adversarial": "relativistic"},
    "relativistic with R2": {"loss.adversarial": "relativistic", "loss.r2_weight": 0.1},
    "feature matching": {"loss.feature_matching_weight": 1.0},
    "learning rates halved": {
        "optimizer_d.learning_rate": 3e-3,
        "optimizer_g.learning_rate": 5e-3,
    },
    "learning rates doubled": {
        "optimizer_d.learning_rate": 1.2e-2,
        "optimizer_g.learning_rate": 2e-2,
    },
    "beta1 0.5": {"optimizer_d.beta1": 0.5, "optimizer_g.beta1": 0.5},
    "G without norm": {"generator.name": "no norm"},
    "G with group norm": {"generator.name": "group norm"},
    "D without norm": {"discriminator.name": "no norm"},
    "D with group norm": {"discriminator.name": "group norm"},
    "D with spectral norm and LayerNorm": {"discriminator.name": "spectral"},
    "D with spectral norm only": {"discriminator.name": "spectral, no norm"},
}
FOR_FEW = (DEFAULT, "DiffAugment", ADAPTIVE)


def register() -> None:
    """Adds the networks above to the registry, in this process."""
    registry.GENERATORS.update(GENERATORS)
    registry.DISCRIMINATORS.update(DISCRIMINATORS)


def applied(variant: str, config: ConfigDict) -> ConfigDict:
    """A copy of the configuration with the changes of a variant."""
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(dict(VARIANTS[variant]))
    return changed
