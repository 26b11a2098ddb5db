"""A generator small enough to compile in a second, with random weights."""

import jax
import jax.numpy as jnp
import numpy as np

from cxr_gan.models.registry import GeneratorConfig
from cxr_gan.sampling.sampler import GeneratorParams

CONFIG = GeneratorConfig(
    name="residual",
    resolution=32,
    latent_size=8,
    class_names=("NORMAL", "PNEUMONIA"),
    features_at_32=4,
    max_features=8,
    class_embedding_dim=4,
)


def params(seed: int = 0) -> GeneratorParams:
    """Normal weights; initialised ones would make all images equal.

    A new block's last convolution is zero.
    """
    shapes = jax.eval_shape(
        CONFIG.build().init,
        jax.random.key(0),
        jnp.zeros((1, CONFIG.latent_size)),
        jnp.zeros(1, jnp.int32),
    )["params"]
    noise = np.random.default_rng(seed)
    weights = jax.tree.map(
        lambda w: noise.normal(0, 0.25, w.shape).astype(np.float32), shapes
    )
    return GeneratorParams(weights, CONFIG)
