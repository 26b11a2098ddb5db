"""The static definition of a GAN: networks, optimizers, loss weights and schedules."""

import dataclasses
import math
from typing import cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from cxr_gan.config import Config, OptimizerConfig
from cxr_gan.losses import ADVERSARIAL, CLASS_LOSSES, AdversarialLoss, ClassLoss
from cxr_gan.models.discriminator import DiscriminatorOutput
from cxr_gan.models.registry import GeneratorConfig, build_discriminator


@dataclasses.dataclass(frozen=True)
class GanDefinition:
    """All that never changes in a training; hashable, closed over by the step."""

    config: Config
    generator: nn.Module
    discriminator: nn.Module
    optimizer_d: optax.GradientTransformation
    optimizer_g: optax.GradientTransformation
    adversarial: AdversarialLoss
    class_loss: ClassLoss
    num_classes: int
    resolution: int
    latent_size: int
    group_size: int  # consecutive images that D compares, equally many of each class
    augment_policies: tuple[tuple[str, float], ...]  # (name, strength), sorted by name

    def generate(
        self, params: optax.Params, z: jax.Array, label: jax.Array
    ) -> jax.Array:
        """z float32 [n, latent], label int32 [n] -> float32 [n, s, s, 1] in [-1, 1]."""
        return cast(jax.Array, self.generator.apply({"params": params}, z, label))

    def discriminate(
        self, params: optax.Params, image: jax.Array
    ) -> DiscriminatorOutput:
        """Image float32 [n, s, s, 1] in [-1, 1] -> D's outputs of n images."""
        output = self.discriminator.apply({"params": params}, image)
        return cast(DiscriminatorOutput, output)


def generator_config(config: Config, class_names: tuple[str, ...]) -> GeneratorConfig:
    """The generator of a configuration, for these classes."""
    return GeneratorConfig(
        resolution=config.resolution,
        latent_size=config.latent_size,
        class_names=tuple(class_names),
        base_resolution=config.base_resolution,
        **dataclasses.asdict(config.generator),
    )


def build_gan(config: Config, class_names: tuple[str, ...]) -> GanDefinition:
    """The GAN of a configuration, for these classes."""
    augment = dataclasses.asdict(config.augment)
    del augment["adaptive"]
    group_size = config.stddev_group_per_class * len(class_names)
    return GanDefinition(
        config=config,
        generator=generator_config(config, class_names).build(config.compute_dtype),
        discriminator=build_discriminator(
            **dataclasses.asdict(config.discriminator),
            resolution=config.resolution,
            base_resolution=config.base_resolution,
            num_classes=len(class_names),
            group_size=group_size,
            compute_dtype=config.compute_dtype,
        ),
        optimizer_d=make_optimizer(config.optimizer_d),
        optimizer_g=make_optimizer(config.optimizer_g),
        adversarial=ADVERSARIAL[config.loss.adversarial],
        class_loss=CLASS_LOSSES[config.loss.class_loss],
        num_classes=len(class_names),
        resolution=config.resolution,
        latent_size=config.latent_size,
        group_size=group_size,
        augment_policies=tuple(sorted(augment.items())),
    )


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam whose updates are divided by the square root of the fan-in.

    The fan-in is the product of all dimensions but the last. Adam's steps are equally
    large in all weights, so without the division the change of a layer's output would
    grow with its fan-in. With beta1 = 0 Adam equals RMSprop with bias correction, which
    stores no first moment.

    Source: Karras et al. 2018, "Progressive Growing of GANs", section 4.1 (equalized
    learning rate), applied to the updates instead of the weights; Kingma & Ba 2015,
    "Adam", section 5 (RMSprop).
    """

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


def dummy_inputs(gan: GanDefinition) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Zeros (z, label, image) of one group, to initialise the networks with."""
    n, size = gan.group_size, gan.resolution
    z = jnp.zeros((n, gan.latent_size))
    return z, jnp.zeros((n,), jnp.int32), jnp.zeros((n, size, size, 1))
