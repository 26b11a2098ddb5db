"""What never changes in a run: both networks and how the game is scored."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.losses import ADVERSARIAL, CLASSES, Adversarial, Classes
from cxr_gan.models.discriminator import Discriminator
from cxr_gan.models.generator import Generator
from cxr_gan.schedule import Schedule

if TYPE_CHECKING:
    import optax
    from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class GeneratorSpec:
    """All it takes to build a generator; hashable, so it may travel beside params."""

    name: str  # entry of GENERATORS
    resolution: int  # pixels a side
    latent_size: int
    class_names: tuple[str, ...]  # index = label
    features_at_32: int
    max_features: int
    embedding: int

    @classmethod
    def from_json(cls, told: dict[str, Any], where: str) -> Self:
        """What `dataclasses.asdict` and JSON made of a spec -> the spec.

        Raises:
            ValueError: naming `where`: it is of another version of cxr_gan.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        if set(told) != fields or told["name"] not in GENERATORS:
            raise ValueError(
                f"{where} describes its generator by {told}; this version of cxr_gan "
                f"reads {sorted(fields)}, name one of {sorted(GENERATORS)}: use the "
                "version it was trained with"
            )
        return cls(**{**told, "class_names": tuple(told["class_names"])})

    def build(self, precision: str = "float32") -> nn.Module:
        """The module: apply({"params": params}, z [n, latent], label [n])."""
        return GENERATORS[self.name](
            num_classes=len(self.class_names),
            widths=widths(self.resolution, self.features_at_32, self.max_features),
            embedding=self.embedding,
            dtype=jnp.dtype(precision),
        )


@dataclasses.dataclass(frozen=True)
class Gan:
    """Networks, optimizers and the rules of the game; closed over, never traced."""

    generator: nn.Module
    discriminator: nn.Module
    optimizer_d: "optax.GradientTransformation"
    optimizer_g: "optax.GradientTransformation"
    adversarial: Adversarial
    classes: Classes
    num_classes: int
    resolution: int
    latent_size: int
    group: int  # consecutive images, equally many of each class
    microbatches: int  # parts of a device's share, whole groups each
    policies: tuple[tuple[str, float], ...]  # augmentation: names and strengths
    augment_by_lead: bool  # of a share of images, which rises with D's lead
    loss: Any  # frozen config: weights, see configs/acgan.py
    balance: Any  # frozen config
    ema_halflife_kimg: float
    ema_rampup: float
    schedule: Schedule


def widths(resolution: int, features_at_32: int, most: int) -> tuple[int, ...]:
    """Features at 4, 8, ... resolution / 2 pixels: halved where the side doubles."""
    sizes = (2**i for i in range(2, resolution.bit_length() - 1))
    return tuple(min(most, features_at_32 * 32 // size) for size in sizes)


def spec_of(config: "ConfigDict", class_names: tuple[str, ...]) -> GeneratorSpec:
    """The generator a checked config asks for."""
    return GeneratorSpec(
        name=config.generator.name,
        resolution=config.resolution,
        latent_size=config.latent_size,
        class_names=tuple(class_names),
        features_at_32=config.generator.features_at_32,
        max_features=config.generator.max_features,
        embedding=config.generator.embedding,
    )


def build(config: "ConfigDict", class_names: tuple[str, ...]) -> Gan:
    """The game a checked config describes, for these classes."""
    from ml_collections import FrozenConfigDict

    d, classes = config.discriminator, CLASSES[config.loss.classes]
    group = config.group_per_class * len(class_names)
    narrowing = widths(config.resolution, d.features_at_32, d.max_features)[::-1]
    return Gan(
        generator=spec_of(config, class_names).build(config.precision),
        discriminator=DISCRIMINATORS[d.name](
            num_classes=len(class_names),
            widths=narrowing,
            group=group,
            answers=classes.answers,
            dtype=jnp.dtype(config.precision),
        ),
        optimizer_d=optimizer(config.optimizer_d),
        optimizer_g=optimizer(config.optimizer_g),
        adversarial=ADVERSARIAL[config.loss.adversarial],
        classes=classes,
        num_classes=len(class_names),
        resolution=config.resolution,
        latent_size=config.latent_size,
        group=group,
        microbatches=config.microbatches,
        policies=tuple((k, config.augment[k]) for k in sorted(config.augment)),
        augment_by_lead=config.augment_by_lead,
        loss=FrozenConfigDict(config.loss),
        balance=FrozenConfigDict(config.balance),
        ema_halflife_kimg=config.ema_halflife_kimg,
        ema_rampup=config.ema_rampup,
        schedule=Schedule(
            batch_kimg=config.batch_size / 1000,
            total_kimg=config.total_kimg,
            decay_kimg=config.decay * config.total_kimg,
            sharpen_kimg=config.sharpen * config.total_kimg,
            condition_kimg=config.condition * config.total_kimg,
        ),
    )


def optimizer(config: "ConfigDict") -> "optax.GradientTransformation":
    """Adam whose steps are in units of each layer's initial weights.

    An update of a kernel is divided by the square root of its fan-in: Adam's steps are
    as large in every weight, so the more of them a layer sums, the wilder it swings.
    With a beta1 of 0 Adam is RMSprop, its bias corrected: its first moment, which is
    then the slope itself, is not kept.

    Source: Karras et al. 2018, "Progressive Growing of GANs", section 4.1 (equalized
    learning rate), moved from the weights to their updates; Kingma & Ba 2015, "Adam",
    section 5 (RMSprop).
    """
    import optax

    def equalize(updates: optax.Updates, params: optax.Params) -> optax.Updates:
        del params
        return jax.tree.map(lambda u: u / math.sqrt(math.prod(u.shape[:-1])), updates)

    rate, beta1, beta2 = config.learning_rate, config.beta1, config.beta2
    if beta1 == 0:
        adam = optax.rmsprop(
            rate, decay=beta2, eps=1e-8, eps_in_sqrt=False, bias_correction=True
        )
    else:
        adam = optax.adam(rate, b1=beta1, b2=beta2)
    return optax.chain(adam, optax.stateless(equalize))


def examples(gan: Gan) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One group of noise, labels and blank images, to initialise the networks with."""
    z = jnp.zeros((gan.group, gan.latent_size))
    label = jnp.zeros((gan.group,), jnp.int32)
    return z, label, jnp.zeros((gan.group, gan.resolution, gan.resolution, 1))


GENERATORS = {"residual": Generator}
DISCRIMINATORS = {"residual": Discriminator}
