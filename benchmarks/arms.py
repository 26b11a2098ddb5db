"""The arms of the ablation: the published recipe with one thing changed in each.

An arm is a few values of the configuration. Where one names a network that is not the
library's own, it is one of `GENERATORS` or `DISCRIMINATORS` below: most are the
library's network itself, traced with another layer in place of one of its own.
"""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from cxr_gan import gan
from cxr_gan.models import discriminator, generator, layers
from cxr_gan.models.convolution import Conv3x3
from cxr_gan.models.discriminator import Discriminator, Judgement
from cxr_gan.models.generator import Generator

GROUPS = 8  # of channels, in a group norm
ITERATIONS = 8  # of the power method

Changes = Mapping[str, Any]  # dotted key of the configuration -> value


def altered(network: type[nn.Module], where: Any, **swaps: Any) -> type[nn.Module]:
    """The network, traced with other things under these names of a module."""

    # A base class that is an argument is beyond mypy.
    class Altered(network):  # type: ignore[misc, valid-type]
        def __call__(self, *inputs: jax.Array) -> Any:
            with mock.patch.multiple(where, **swaps):
                return super().__call__(*inputs)

    return Altered


def as_it_is(
    x: jax.Array, scale: jax.Array | float = 1.0, bias: jax.Array | float = 0.0
) -> jax.Array:
    """In place of `layers.normalize`: gains and shifts are left of a norm."""
    return x.astype(jnp.float32) * scale + bias


def in_groups(
    x: jax.Array, scale: jax.Array | float = 1.0, bias: jax.Array | float = 0.0
) -> jax.Array:
    """In place of `layers.normalize`: x [n, h, w, c], by GROUPS groups of channels.

    Source: Wu & He 2018, "Group Normalization", section 3.
    """
    n, h, w, c = x.shape
    groups = x.astype(jnp.float32).reshape(n, h * w, GROUPS, c // GROUPS)
    mean = groups.mean((1, 3), keepdims=True)
    variance = (groups * groups).mean((1, 3), keepdims=True) - mean * mean
    spread = jax.lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-5)
    return ((groups - mean) * spread).reshape(n, h, w, c) * scale + bias


def alone(x: jax.Array, group: int, num_classes: int) -> jax.Array:
    """In place of `layers.group_deviation`: an image is judged by itself."""
    return x


def by_norm(kernel: jax.Array) -> jax.Array:
    """A kernel over the largest singular value of its [inputs, outputs] matrix.

    Source: Miyato et al. 2018, "Spectral Normalization for Generative Adversarial
    Networks", section 2.1; the power method begins anew each time, so D has no memory.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    still = jax.lax.stop_gradient(matrix)
    right = jnp.ones(matrix.shape[-1])
    for _ in range(ITERATIONS):
        left = still @ right
        right = still.T @ (left / (jnp.linalg.norm(left) + 1e-12))
    left = left / (jnp.linalg.norm(left) + 1e-12)
    right = right / (jnp.linalg.norm(right) + 1e-12)
    return kernel / (left @ matrix @ right + 1e-12)


def spectral(params: Any) -> Any:
    """Every kernel of a network's params `by_norm`."""
    return jax.tree.map(lambda p: by_norm(p) if p.ndim > 1 else p, params)


class Projection(Discriminator):
    """Realness is also how well an image suits its class; pathology is not asked for.

    The class is known by an example's place: in a batch classes are interleaved.

    Source: Miyato & Koyama 2018, "cGANs with Projection Discriminator", eq. 3.
    """

    @nn.compact
    def __call__(self, image: jax.Array, sharpness: jax.Array | float = 1) -> Judgement:
        """As `Discriminator`."""
        body = Discriminator(
            self.num_classes,
            self.widths,
            self.group,
            self.answers,
            self.dtype,
            name="body",
        )
        seen = body(image, sharpness)
        each = nn.Dense(self.num_classes, use_bias=False, name="projection")
        label = jnp.arange(len(image)) % self.num_classes
        suits = jnp.take_along_axis(each(seen.features), label[:, None], 1)[:, 0]
        return seen._replace(realness=seen.realness + suits)


class Smooth(nn.Module):
    """`generator.Head` without its detail."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> float32 [n, 2h, 2w, 1]."""
        smooth = Conv3x3(4, name="smooth")(x.astype(jnp.float32))
        return layers.blur(layers.pixel_shuffle(smooth))


GENERATORS = {
    "no norm": altered(Generator, layers, normalize=as_it_is),
    "group norm": altered(Generator, layers, normalize=in_groups),
    "no detail": altered(Generator, generator, Head=Smooth),
}
_Spectral = nn.map_variables(Discriminator, "params", spectral, init=True)
DISCRIMINATORS = {
    "no norm": altered(Discriminator, layers, normalize=as_it_is),
    "group norm": altered(Discriminator, layers, normalize=in_groups),
    "blunt": altered(Discriminator, discriminator, checkerboard=jnp.zeros_like),
    "no deviation": altered(Discriminator, discriminator, group_deviation=alone),
    "plain": altered(
        Discriminator,
        discriminator,
        group_deviation=alone,
        checkerboard=jnp.zeros_like,
    ),
    "spectral": _Spectral,
    "spectral, no norm": altered(_Spectral, layers, normalize=as_it_is),
    "projection": Projection,
}

DIFF_AUGMENT = {
    "augment.brightness": 0.2,
    "augment.contrast": 0.2,
    "augment.translation": 0.1,
    "augment.cutout": 0.2,
}
NO_AVERAGE = {"ema_rampup": 1e-6}  # a half-life of no time at all
BY_LEAD = "DiffAugment as D's lead asks"
DEFAULT, PLAIN = "as published", "plain LSGAN-ACGAN with LayerNorm"
ARMS: dict[str, Changes] = {
    DEFAULT: {},
    # The original project: nothing but networks with LayerNorm and the two losses.
    PLAIN: {
        "generator.name": "no detail",
        "discriminator.name": "plain",
        "loss.sameness_weight": 0.0,
        "loss.r1_weight": 0.0,
        "balance.enabled": False,
        **NO_AVERAGE,
    },
    "no sameness": {"loss.sameness_weight": 0.0},
    "sameness three times": {"loss.sameness_weight": 3.0},
    "no group deviation": {"discriminator.name": "no deviation"},
    "no balance": {"balance.enabled": False},
    "DiffAugment": DIFF_AUGMENT,
    "DiffAugment, exposure alone": {"augment.brightness": 0.2, "augment.contrast": 0.2},
    "DiffAugment, geometry alone": {"augment.translation": 0.1, "augment.cutout": 0.2},
    BY_LEAD: {**DIFF_AUGMENT, "augment_by_lead": True},
    "no R1": {"loss.r1_weight": 0.0},
    "R1 a fifth": {"loss.r1_weight": 0.02},
    "R1 five times": {"loss.r1_weight": 0.5},
    "no EMA": NO_AVERAGE,
    "no decay of the learning rates": {"decay": 0.0},
    "EMA three times as long": {"ema_rampup": 0.15, "ema_halflife_kimg": 30.0},
    "no detail head": {"generator.name": "no detail"},
    "checkerboard not shown to D": {"discriminator.name": "blunt"},
    "checkerboard shown in full from the start": {"sharpen": 0.0},
    "labels ramped in over a tenth": {"condition": 0.1},
    "class losses doubled": {"loss.class_weight_d": 1.0, "loss.class_weight_g": 0.8},
    "class loss of D on both": {"loss.classes": "both"},
    "class loss of D discriminating": {"loss.classes": "discriminating"},
    "projection for class losses": {
        "discriminator.name": "projection",
        "loss.class_weight_d": 0.0,
        "loss.class_weight_g": 0.0,
    },
    "hinge": {"loss.adversarial": "hinge"},
    "logistic": {"loss.adversarial": "logistic"},
    "relativistic": {"loss.adversarial": "relativistic"},
    "relativistic with R2": {"loss.adversarial": "relativistic", "loss.r2_weight": 0.1},
    "feature matching": {"loss.feature_matching": 1.0},
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
    "D with spectral norm too": {"discriminator.name": "spectral"},
    "D with spectral norm alone": {"discriminator.name": "spectral, no norm"},
}
FOR_FEW = (DEFAULT, "DiffAugment", BY_LEAD)


def register() -> None:
    """Lets configurations name the networks above, in this process."""
    gan.GENERATORS.update(GENERATORS)
    gan.DISCRIMINATORS.update(DISCRIMINATORS)


def applied(arm: str, config: ConfigDict) -> ConfigDict:
    """A configuration of its own: the given one, changed as the arm says."""
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(dict(ARMS[arm]))
    return changed
