"""The published configuration as contestants play it."""

from ml_collections import ConfigDict

from benchmarks.rivals.rules import Rules
from cxr_gan import config as configs
from cxr_gan.gan import widths

CLASS_NAMES = ("NORMAL", "PNEUMONIA")
# Off as published; on here, so that all a contestant can do is compared.
AUGMENTED = {"brightness": 0.2, "contrast": 0.2, "translation": 0.1, "cutout": 0.2}


def measured(batch_size: int, resolution: int = 64) -> ConfigDict:
    """configs/acgan.py at this batch, augmented.

    Without what is ours alone: the balance, and what changes by plan.
    """
    config = configs.published()
    config.batch_size, config.resolution = batch_size, resolution
    config.balance.enabled = False
    config.sharpen = config.decay = 0.0
    config.augment.update(AUGMENTED)
    return config


def rules_of(config: ConfigDict) -> Rules:
    """What rivals have to know of a config."""
    g, d, loss = config.generator, config.discriminator, config.loss
    narrowing = widths(config.resolution, d.features_at_32, d.max_features)[::-1]
    return Rules(
        batch_size=config.batch_size,
        resolution=config.resolution,
        num_classes=len(CLASS_NAMES),
        latent_size=config.latent_size,
        embedding=g.embedding,
        widths_g=widths(config.resolution, g.features_at_32, g.max_features),
        widths_d=narrowing,
        group=config.group_per_class * len(CLASS_NAMES),
        class_weight_d=loss.class_weight_d,
        class_weight_g=loss.class_weight_g,
        sameness_weight=loss.sameness_weight,
        r1_weight=loss.r1_weight,
        r1_every=loss.r1_every,
        **config.augment,
        beta1=config.optimizer_d.beta1,
        beta2=config.optimizer_d.beta2,
        ema_keep=0.5 ** (config.batch_size / 1000 / config.ema_halflife_kimg),
    )
