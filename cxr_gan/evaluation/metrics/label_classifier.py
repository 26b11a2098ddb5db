"""Classifier of real images, fitted in half a minute, for label accuracy.

Label accuracy is the fraction of generated images that the classifier assigns to the
class they were generated for. It is the reverse of the classification accuracy score
(Ravuri & Vinyals 2019, "Classification accuracy score for conditional generative
models"), which trains on generated images and tests on real ones.

Generated images are smoother or noisier than real ones and differ in brightness. For
this reason the classifier standardises each image by its own mean and standard
deviation, and is trained on images that are shifted, blurred and made noisy.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from flax import linen as nn

from cxr_gan.evaluation.metrics import augmentations, cxr_encoder
from cxr_gan.evaluation.metrics.batching import check_images, map_batches
from cxr_gan.evaluation.metrics.resize import resize, to_unit
from cxr_gan.sampling import arguments

SIZE = 64  # px; the only input size
STEPS = 1200
BATCH = 32  # images; a balanced batch has max(1, 32 // num_classes) of each class
LEARNING_RATE = 3e-3  # of AdamW at the first step; decays to 0 (half a cosine)
WEIGHT_DECAY = 0.05  # of AdamW
MAX_SHIFT = 3  # px, of the augmentation
BLUR_SIGMA = 1.0  # px, of the augmentation
MAX_NOISE_SIGMA = 0.03  # of the augmentation, for values in [0, 1]

# Without a learning rate, which is an argument of each step: one compiled program for
# any number of steps.
ADAMW = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(WEIGHT_DECAY))


class Classifier(nn.Module):
    """Class logits from the mean and maximum of features over a 4 x 4 grid."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, 64, 64, 1] in [0, 1] -> logits [n, num_classes]."""
        axes = (1, 2, 3)
        h = (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-3)
        h = cxr_encoder.pixel_unshuffle(h, 4)
        h = cxr_encoder.convolutions(h, (32, 64))
        # Not h.max: its gradient finds the maximum by ==. Where XLA computes h twice
        # with different rounding, no element is equal, and the gradient is NaN.
        maximum = nn.max_pool(h, h.shape[1:3]).reshape(len(x), -1)
        pooled = jnp.concatenate([h.mean((1, 2)), maximum], -1)
        return nn.Dense(self.num_classes, name="head")(pooled)


def fit(
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    seed: int,
    *,
    steps: int = STEPS,
    balanced: bool = True,
    class_weights: np.ndarray | None = None,
    start: Any = None,
) -> Any:
    """Trains a classifier; deterministic for equal arguments on the same machine.

    Args:
        images: uint8 [n, s, s, 1]; resized to 64 px as by `resize.resize`.
        labels: int32 [n], 0..num_classes-1.
        num_classes: 2 or more; each has at least one image.
        seed: of initial params, order of images and augmentation.
        steps: of 32 images each; the default takes half a minute on one core.
        balanced: whether batches have equally many images of each class. Otherwise
            images are drawn in random order, each once per epoch.
        class_weights: [num_classes], finite, above 0: factors of the loss of images of
            each class; None for equal weights.
        start: params of an earlier fit to continue from; None for random ones.

    Returns:
        Params of a `Classifier(num_classes)`.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], or n is 0.
        ValueError: there is no image of a class.
    """
    check_images(images)
    absent = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(absent):
        raise ValueError(
            f"there is no image of class {absent[0]}; give at least one of each class"
        )
    init_key, key = jax.random.split(arguments.as_key(seed))
    params = init_params(num_classes, init_key) if start is None else start
    opt_state = ADAMW.init(params)
    rates = LEARNING_RATE * np.cos(np.linspace(0, np.pi / 2, steps + 1)) ** 2
    if balanced:
        groups = [np.flatnonzero(labels == label) for label in range(num_classes)]
    else:
        groups = [np.arange(len(labels))]
    batches = _batches(groups, max(1, BATCH // len(groups)), steps, seed)
    bar = tqdm.tqdm(batches, "Fitting the label classifier", disable=None, delay=2)
    for step, rows in enumerate(bar):
        rng, rate = jax.random.fold_in(key, step), np.float32(rates[step])
        y = labels[rows]
        weights = None if class_weights is None else np.float32(class_weights[y])
        params, opt_state = _train_step(
            params, opt_state, images[rows], y, rng, rate, weights
        )
    return params


def predict(params: Any, images: np.ndarray) -> np.ndarray:
    """Class probabilities: uint8 [n, s, s, 1] -> float32 [n, num_classes].

    `params` are from `fit`. Rows sum to 1. A classifier fitted on balanced batches
    assumes equally frequent classes.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], or n is 0.
    """
    return map_batches(lambda batch: _predict(params, batch), images)


def _batches(
    groups: Sequence[np.ndarray], per_group: int, steps: int, seed: int
) -> np.ndarray:
    """Indices, int64 [steps, len(groups) * per_group].

    Each batch has `per_group` images of each group, given by its indices, int64 [n].
    They are taken from repeated random permutations of the group.
    """
    rng = np.random.default_rng(seed)
    columns = []
    for members in groups:
        epochs = -(-steps * per_group // len(members))
        order = np.concatenate([rng.permutation(members) for _ in range(epochs)])
        columns.append(order[: steps * per_group].reshape(steps, per_group))
    return np.concatenate(columns, 1)


@functools.partial(jax.jit, static_argnums=0)
def init_params(num_classes: int, rng: jax.Array) -> Any:
    """Initial params; jitted, so that it compiles once for all fits."""
    return Classifier(num_classes).init(rng, jnp.zeros((1, SIZE, SIZE, 1)))["params"]


@jax.jit
def _train_step(
    params: Any,
    opt_state: Any,
    images: jax.Array,
    labels: jax.Array,
    rng: jax.Array,
    rate: jax.Array,
    weights: jax.Array | None,
) -> tuple[Any, Any]:
    """One step on images uint8 [b, s, s, 1], labels int32 [b] -> params, opt_state.

    `rate` is the learning rate; `weights`, float32 [b], multiply the loss per image.
    """
    rngs = jax.random.split(rng, 3)
    x = augmentations.random_shift(resize(to_unit(images), SIZE), rngs[0], MAX_SHIFT)
    x = augmentations.random_noise(
        augmentations.random_blur(x, rngs[1], BLUR_SIGMA), rngs[2], MAX_NOISE_SIGMA
    )

    def loss(params: Any) -> jax.Array:
        error = optax.softmax_cross_entropy_with_integer_labels(
            _logits(params, x), labels
        )
        return jnp.mean(error if weights is None else weights * error)

    updates, opt_state = ADAMW.update(jax.grad(loss)(params), opt_state, params)
    updates = jax.tree.map(lambda update: -rate * update, updates)
    return optax.apply_updates(params, updates), opt_state


def _logits(params: Any, x: jax.Array) -> jax.Array:
    net = Classifier(len(params["head"]["bias"]))
    logits: Any = net.apply({"params": params}, x)
    return logits


@jax.jit
def _predict(params: Any, images: jax.Array) -> jax.Array:
    return nn.softmax(_logits(params, resize(to_unit(images), SIZE)))
