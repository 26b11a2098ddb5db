"""Training on few images, from a trained model; at 64 x 64 pixels.

    python -m cxr_gan.main --config=configs/finetune.py --config.init=pediatric64 \
      --config.dataset=path/to/mine --workdir=runs/few

Two cores take about four minutes for the 10 kimg. docs/few_images.md has
the scores to expect with 25, 100 and 1,000 images of each class.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

DEFAULT = pathlib.Path(__file__).with_name("acgan.py")


def get_config() -> ConfigDict:
    """The default configuration with the changes that help a trained model."""
    config = runpy.run_path(str(DEFAULT))["get_config"]()
    config.init = "pediatric64"
    config.optimizer_d.learning_rate *= 0.3
    config.optimizer_g.learning_rate *= 0.3
    config.loss.r1_weight *= 5
    config.augment.brightness = 0.2
    config.augment.contrast = 0.2
    config.augment.translation = 0.1
    config.augment.cutout = 0.2
    config.augment.adaptive = True
    config.ema_halflife_kimg = 2.0
    config.ema_rampup = 1.0  # the first average is that of a trained model
    config.total_kimg = 10.0
    config.sample_kimg = 1.0
    config.eval_kimg = 1.0
    config.checkpoint_kimg = 1.0
    return config
