"""The published run at 128 x 128 pixels; most of the project's figures are of 64 x 64.

python -m cxr_gan.main --config=configs/acgan_128.py --workdir=runs/acgan_128

Twice the side is four times the pixels. A D of the same judgement has a quarter of
the slope in each, and the sum of squares, R1, is a quarter: so its weight is four
times the published one.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

PUBLISHED = pathlib.Path(__file__).with_name("acgan.py")


def get_config() -> ConfigDict:
    """The published configuration, larger and longer."""
    config = runpy.run_path(str(PUBLISHED))["get_config"]()
    config.resolution = 128
    config.loss.r1_weight *= 4
    config.total_kimg = 400.0
    return config
