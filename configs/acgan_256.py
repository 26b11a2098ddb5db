"""The published run at 256 x 256 pixels; the project's figures are of 64 x 64.

python -m cxr_gan.main --config=configs/acgan_256.py --workdir=runs/acgan_256

Four times the side is sixteen times the pixels. A D of the same judgement has a
sixteenth of the slope in each, and the sum of squares, R1, is a sixteenth: so its
weight is sixteen times the published one.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

PUBLISHED = pathlib.Path(__file__).with_name("acgan.py")


def get_config() -> ConfigDict:
    """The published configuration, larger and longer."""
    config = runpy.run_path(str(PUBLISHED))["get_config"]()
    config.resolution = 256
    config.loss.r1_weight *= 16
    config.total_kimg = 800.0
    return config
