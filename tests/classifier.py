"""Classifier of the class of an image, fitted on real images in half a minute.

Independent of the package's own label classifier. Generated images are smoother or
noisier than real ones and differ in brightness. For this reason each image is
standardised by its own mean and standard deviation, and training images are shifted,
blurred and made noisy; on real images this costs no accuracy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from scipy import ndimage

BATCH = 30
LEARNING_RATE = 3e-3  # of Adam at the first step; decays to 0
MAX_SHIFT = 2  # px, of the augmentation
BLUR_SIGMA = 1.0  # px, of the augmentation
MAX_NOISE_SIGMA = 0.03  # of the augmentation, for values in [0, 1]


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
    """Trains on images float32 [n, s, s, 1] in [0, 1], labels int [n].

    Returns a function that maps images [m, s, s, 1] to their predicted classes, int
    [m]. Deterministic for equal arguments.
    """
    net = Classifier(int(labels.max()) + 1)
    batches = len(images) // BATCH
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, epochs * batches))
    apply = jax.jit(net.apply)

    @jax.jit
    def step(variables, opt_state, x, y):
        def loss(variables):
            logits = net.apply(variables, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(variables), opt_state)
        return optax.apply_updates(variables, updates), opt_state

    variables = net.init(jax.random.key(seed), images[:1])
    opt_state = optimizer.init(variables)
    rng = np.random.default_rng(seed)
    blurred = ndimage.gaussian_filter(images, (0, BLUR_SIGMA, BLUR_SIGMA, 0))
    for _ in range(epochs):
        order = rng.permutation(len(images))[: batches * BATCH]
        for rows in order.reshape(batches, BATCH):
            x = augment(images[rows], blurred[rows], rng)
            variables, opt_state = step(variables, opt_state, x, labels[rows])
    return lambda images: np.argmax(apply(variables, images), -1)


def augment(images, blurred, rng):
    """Mixes images with their blurred copies, adds noise, and shifts.

    Pixels beyond the border repeat the nearest edge pixel.
    """
    n, size = images.shape[:2]
    blur_fraction, noise_fraction = rng.random((2, n, 1, 1, 1), np.float32)
    x = images + blur_fraction * (blurred - images)
    x += MAX_NOISE_SIGMA * noise_fraction * rng.standard_normal(x.shape, np.float32)
    margin = (MAX_SHIFT, MAX_SHIFT)
    padded = np.pad(x, ((0, 0), margin, margin, (0, 0)), mode="edge")
    row, column = rng.integers(0, 2 * MAX_SHIFT + 1, (2, n, 1)) + np.arange(size)
    return padded[np.arange(n)[:, None, None], row[:, :, None], column[:, None, :]]
