"""A generator small enough to compile in a second, whose images differ."""

import jax
import jax.numpy as jnp
import numpy as np

from cxr_gan.gan import GeneratorSpec
from cxr_gan.sampling import GeneratorParams

SPEC = GeneratorSpec(
    name="residual",
    resolution=32,
    latent_size=8,
    class_names=("NORMAL", "PNEUMONIA"),
    features_at_32=4,
    max_features=8,
    embedding=4,
)


def params(seed: int = 0) -> GeneratorParams:
    """Weights of noise: as fresh ones, the blocks' last convolutions would be zero."""
    shapes = jax.eval_shape(
        SPEC.build().init,
        jax.random.key(0),
        jnp.zeros((1, SPEC.latent_size)),
        jnp.zeros(1, jnp.int32),
    )["params"]
    noise = np.random.default_rng(seed)
    weights = jax.tree.map(
        lambda w: noise.normal(0, 0.25, w.shape).astype(np.float32), shapes
    )
    return GeneratorParams(weights, SPEC)
