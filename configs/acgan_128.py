"""The default configuration at 128 x 128 pixels.

    python -m cxr_gan.main --config=configs/acgan_128.py --config.init=pediatric64 \
      --config.dataset=path/to/chest_xray --workdir=runs/acgan_128

No training with the present networks has been finished yet: see "128 and 256 pixels"
in docs/results.md.

The networks have a head and a stem for images of 64 px as well, so that they can start
from a model of that size.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

DEFAULT = pathlib.Path(__file__).with_name("acgan.py")


def get_config() -> ConfigDict:
    """The default configuration, larger and longer."""
    config = runpy.run_path(str(DEFAULT))["get_config"]()
    config.resolution = 128
    config.base_resolution = 64
    config.loss.r1_weight = 0.4  # from 0.1 at 64 px, in proportion to the pixels
    config.loss.spectrum_weight = 0.03  # 0.1 drew streaks into images without grain
    config.total_kimg = 400.0
    return config
