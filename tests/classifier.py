"""A judge of which class an image shows, fitted on real images in half a minute.

Generated images are smoother or grainier than real ones and at another brightness. So
the judge sees each image in units of its own spread, and is taught on images moved,
softened and grained; on real ones that costs it nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from scipy import ndimage

BATCH = 30
LEARNING_RATE = 3e-3  # of Adam at first; it falls to zero
SHIFT = 2  # pixels, up to which images are moved
SOFTNESS = 1.0  # pixels, deviation of the Gaussian mixed in
GRAIN = 0.03  # largest deviation of the noise added, of values in [0, 1]


class Classifier(nn.Module):
    """x [n, s, s, 1] -> logits [n, num_classes]."""

    num_classes: int

    @nn.compact
    def __call__(self, x):
        axes = (1, 2, 3)
        h = (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-3)
        h = nn.avg_pool(h, (2, 2), (2, 2))
        h = nn.relu(nn.Conv(16, (5, 5), strides=2)(h))
        for features in (32, 64):
            h = nn.relu(nn.LayerNorm()(nn.Conv(features, (3, 3))(h)))
            h = nn.avg_pool(h, (2, 2), (2, 2))
        pooled = jnp.concatenate([h.mean((1, 2)), h.max((1, 2))], -1)
        return nn.Dense(self.num_classes)(pooled)


def fit(images, labels, *, seed, epochs):
    """images float32 [n, s, s, 1] in [0, 1], labels int [n] -> judge.

    judge(images) is the class of each, int [m]. The same arguments, the same judge.
    """
    net = Classifier(int(labels.max()) + 1)
    rounds = len(images) // BATCH
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, epochs * rounds))
    logits_of = jax.jit(net.apply)

    @jax.jit
    def step(variables, memory, x, y):
        def loss(variables):
            logits = net.apply(variables, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, memory = optimizer.update(jax.grad(loss)(variables), memory)
        return optax.apply_updates(variables, updates), memory

    variables = net.init(jax.random.key(seed), images[:1])
    memory = optimizer.init(variables)
    rng = np.random.default_rng(seed)
    soft = ndimage.gaussian_filter(images, (0, SOFTNESS, SOFTNESS, 0))
    for _ in range(epochs):
        order = rng.permutation(len(images))[: rounds * BATCH]
        for which in order.reshape(rounds, BATCH):
            x = changed(images[which], soft[which], rng)
            variables, memory = step(variables, memory, x, labels[which])
    return lambda images: np.argmax(logits_of(variables, images), -1)


def changed(sharp, soft, rng):
    """Each image between sharp and soft, with noise, moved; edges are drawn out."""
    n, size = sharp.shape[:2]
    softness, grain = rng.random((2, n, 1, 1, 1), np.float32)
    images = sharp + softness * (soft - sharp)
    images += GRAIN * grain * rng.standard_normal(images.shape, np.float32)
    margin = (SHIFT, SHIFT)
    wide = np.pad(images, ((0, 0), margin, margin, (0, 0)), mode="edge")
    y, x = rng.integers(0, 2 * SHIFT + 1, (2, n, 1)) + np.arange(size)
    return wide[np.arange(n)[:, None, None], y[:, :, None], x[:, None, :]]
