"""A first look in a minute or two on two cores: small phantoms, a small GAN.

python -m cxr_gan.main --config=configs/quick.py --workdir=runs/quick
"""

import pathlib
import runpy

from ml_collections import ConfigDict

PUBLISHED = pathlib.Path(__file__).with_name("acgan.py")


def get_config() -> ConfigDict:
    """The published configuration at 32 x 32 pixels, narrower and shorter."""
    config = runpy.run_path(str(PUBLISHED))["get_config"]()
    config.dataset = "phantom:1000"
    config.resolution = 32
    config.generator.features_at_32 = 32
    config.generator.max_features = 64
    config.discriminator.features_at_32 = 16
    config.discriminator.max_features = 64
    config.total_kimg = 8.0
    config.report_kimg = 0.5
    config.draw_kimg = 2.0
    config.evaluate_kimg = 0.0  # to look at val takes longer than to train
    config.save_kimg = 4.0
    return config
