"""The default configuration at 256 x 256 pixels.

    python -m cxr_gan.main --config=configs/acgan_256.py --config.init=pediatric64 \
      --config.dataset=path/to/chest_xray --workdir=runs/acgan_256

Not tried yet with the present networks.

The networks have a head and a stem for images of 64 and 128 px as well, so that they
can start from a model of 64 px, or from one of acgan_128.py.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

DEFAULT = pathlib.Path(__file__).with_name("acgan.py")


def get_config() -> ConfigDict:
    """The default configuration, larger and longer."""
    config = runpy.run_path(str(DEFAULT))["get_config"]()
    config.resolution = 256
    config.base_resolution = 64
    config.loss.r1_weight = 1.6  # from 0.1 at 64 px and 0.4 at 128 px; not tried
    config.loss.spectrum_weight = 0.03  # as at 128 px; not tried
    config.total_kimg = 800.0
    return config
