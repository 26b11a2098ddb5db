"""The default configuration as it is benchmarked."""

import functools

import jax
from ml_collections import ConfigDict

from benchmarks.baselines.settings import Settings
from cxr_gan import config as configs
from cxr_gan.models.registry import channels_per_stage
from cxr_gan.training.gan import GanDefinition, build_gan
from cxr_gan.training.train_state import TrainState, create_train_state

CLASS_NAMES = ("NORMAL", "PNEUMONIA")
# Off in configs/acgan.py; on in benchmarks, so that augmentation is compared as well.
AUGMENTED = {"brightness": 0.2, "contrast": 0.2, "translation": 0.1, "cutout": 0.2}


def benchmark_config(batch_size: int, resolution: int = 64) -> ConfigDict:
    """configs/acgan.py with this batch size and resolution, with augmentation.

    The balance controller, the schedule of the learning rate and the spectrum loss are
    off, because only cxr_gan has them.
    """
    config = configs.published()
    config.batch_size, config.resolution = batch_size, resolution
    config.balance.enabled = False
    config.lr_decay_fraction = config.loss.spectrum_weight = 0.0
    config.augment.update(AUGMENTED)
    return config


def settings_of(config: ConfigDict) -> Settings:
    """The part of a configuration that all programs share."""
    g, d, loss = config.generator, config.discriminator, config.loss
    size, augment = config.resolution, config.augment
    return Settings(
        batch_size=config.batch_size,
        resolution=size,
        num_classes=len(CLASS_NAMES),
        latent_size=config.latent_size,
        class_embedding_dim=g.class_embedding_dim,
        channels_g=channels_per_stage(size, g.features_at_32, g.max_features),
        channels_d=channels_per_stage(size, d.features_at_32, d.max_features)[::-1],
        group_size=config.stddev_group_per_class * len(CLASS_NAMES),
        class_weight_d=loss.class_weight.d,
        class_weight_g=loss.class_weight.g,
        diversity_weight=loss.diversity_weight,
        r1_weight=loss.r1_weight,
        r1_interval=loss.r1_interval,
        brightness=augment.brightness,
        contrast=augment.contrast,
        cutout=augment.cutout,
        translation=augment.translation,
        beta1=config.optimizer_d.beta1,
        beta2=config.optimizer_d.beta2,
        ema_decay=0.5 ** (config.batch_size / 1000 / config.ema_halflife_kimg),
    )


def build_shapes(config: ConfigDict) -> tuple[GanDefinition, TrainState]:
    """The GAN of a configuration, and the shapes of its training state."""
    gan = build_gan(configs.freeze(config), CLASS_NAMES)
    create = functools.partial(create_train_state, gan)
    return gan, jax.eval_shape(create, jax.random.key(0))
