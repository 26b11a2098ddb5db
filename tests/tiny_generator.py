"""A generator small enough to compile in a second, with random weights."""

import jax
import numpy as np

from cxr_gan.models.registry import GeneratorConfig
from cxr_gan.sampling import pretrained
from cxr_gan.sampling.sampler import GeneratorParams

CONFIG = GeneratorConfig(
    name="resnet",
    resolution=32,
    latent_size=8,
    class_names=("NORMAL", "PNEUMONIA"),
    features_at_32=4,
    max_features=8,
    class_embedding_dim=4,
)


def params(seed: int = 0) -> GeneratorParams:
    """Normal weights; initialised ones would make all images equal.

    The last convolution of a new head is zero.
    """
    noise = np.random.default_rng(seed)
    weights = jax.tree.map(
        lambda w: noise.normal(0, 0.25, w.shape).astype(np.float32),
        pretrained.param_shapes(CONFIG),
    )
    return GeneratorParams(weights, CONFIG)
