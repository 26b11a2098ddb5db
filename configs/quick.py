"""A first test of a minute or two on two cores: small phantoms, small networks.

python -m cxr_gan.main --config=configs/quick.py --workdir=runs/quick
"""

import pathlib
import runpy

from ml_collections import ConfigDict

DEFAULT = pathlib.Path(__file__).with_name("acgan.py")


def get_config() -> ConfigDict:
    """The default configuration at 32 x 32 pixels, narrower and shorter."""
    config = runpy.run_path(str(DEFAULT))["get_config"]()
    config.dataset = "phantom:1000"
    config.resolution = 32
    config.generator.features_at_32 = 32
    config.generator.max_features = 64
    config.discriminator.features_at_32 = 16
    config.discriminator.max_features = 64
    config.total_kimg = 8.0
    config.log_kimg = 0.5
    config.sample_kimg = 2.0
    config.eval_kimg = 0.0  # validation takes longer than this training
    config.checkpoint_kimg = 4.0
    return config
