"""A judge of which class an image shows, fitted on real images in half a minute.

How often a judge finds the class that was asked for is the fidelity of a conditional
generator (Ravuri & Vinyals 2019, "Classification accuracy score for conditional
generative models", the other way round). Generated images are smoother or grainier than
real ones and of another brightness. So the judge sees each image in units of its own
spread, and is taught on images moved, softened and grained.
"""

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from flax import linen as nn

from cxr_gan.metrics import disturb, stored
from cxr_gan.metrics.chunks import check_images, over_chunks
from cxr_gan.metrics.resize import resize, to_unit, unshuffle

SIZE = 64  # px; the judge reads no other size
STEPS = 1200
BATCH = 32  # images at most, equally many of each class; at least one of each
LEARNING_RATE = 3e-3  # of AdamW at first; it falls to zero
DECAY = 0.05  # of AdamW
SHIFT = 3  # px, up to which images are moved
SOFTNESS = 1.0  # px, deviation of the Gaussian mixed in
GRAIN = 0.03  # largest deviation of the noise added, of values in [0, 1]

# The rate is not in it but given step by step: one program, however many steps.
ADAMW = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(DECAY))


class Judge(NamedTuple):
    """A fitted `Classifier`: its weights alone, a pytree."""

    params: Any

    @property
    def num_classes(self) -> int:
        """How many classes it tells apart."""
        return len(self.params["head"]["bias"])


class Classifier(nn.Module):
    """Which class an image shows, from means and maxima over a grid of 4 x 4."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, 64, 64, 1] in [0, 1] -> logits [n, num_classes]."""
        axes = (1, 2, 3)
        h = (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-3)
        h = unshuffle(h, 4)
        for stage, width in enumerate((32, 64)):
            h = nn.Conv(width, (3, 3), name=f"conv_{stage}")(h)
            h = nn.relu(nn.LayerNorm(name=f"norm_{stage}")(h))
            h = nn.avg_pool(h, (2, 2), (2, 2))
        h = nn.Conv(64, (3, 3), name="conv_last")(h)
        h = nn.relu(nn.LayerNorm(name="norm_last")(h))
        # Not h.max: its gradient looks for the maximum by ==, finds none where XLA
        # computed h twice and rounded differently, and is NaN.
        most = nn.max_pool(h, h.shape[1:3]).reshape(len(x), -1)
        pooled = jnp.concatenate([h.mean((1, 2)), most], -1)
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
) -> Judge:
    """A judge taught on images; the same arguments on the same machine, the same judge.

    Args:
        images: uint8 [n, s, s, 1]; resized to 64 px as by `resize.resize`.
        labels: int32 [n], 0..num_classes-1.
        num_classes: 2 or more; each has at least one image.
        seed: of first weights, order and augmentation.
        steps: of 32 images each; the default takes one core half a minute.
        balanced: batches hold equally many of each class, whatever their shares in the
            set; else images as they come, in random order, each before any again.
        class_weights: finite, above 0, [num_classes]: factors of the loss of an image
            of each class; None for equal ones.

    Raises:
        TypeError, ValueError: an argument is not as stated.
    """
    check_images(images)
    _check_labels(labels, len(images), num_classes)
    if class_weights is not None:
        class_weights = _checked_weights(class_weights, num_classes)
    at_first, key = jax.random.split(jax.random.key(seed))
    params = _fresh(num_classes, at_first)
    memory = ADAMW.init(params)
    rates = LEARNING_RATE * np.cos(np.linspace(0, np.pi / 2, steps + 1)) ** 2
    draw = _batches if balanced else _natural_batches
    batches = draw(labels, num_classes, seed, steps)
    bar = tqdm.tqdm(batches, "Fitting the judge of classes", disable=None, delay=2)
    for step, which in enumerate(bar):
        rng, rate = jax.random.fold_in(key, step), np.float32(rates[step])
        y = labels[which]
        factors = None if class_weights is None else class_weights[y]
        params, memory = _learn(params, memory, images[which], y, rng, rate, factors)
    return Judge(params)


def classify(judge: Judge, images: np.ndarray) -> np.ndarray:
    """The probability of each class: uint8 [n, s, s, 1] -> float32 [n, num_classes].

    As if all classes were equally frequent; rows sum to 1.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], or there are none.
    """
    return over_chunks(lambda some: _classify(judge.params, some), images)


def save(judge: Judge, path: str | os.PathLike[str]) -> None:
    """Writes an npz that `load` reads; a file that was there is replaced at once.

    Raises:
        OSError: the folder cannot be made or written.
    """
    stored.write(path, stored.pack(judge.params))


def load(path: str | os.PathLike[str], num_classes: int) -> Judge:
    """The judge that `save` wrote, bit by bit.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another number of classes; fit anew.
    """
    like = jax.eval_shape(
        Classifier(num_classes).init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 1))
    )["params"]
    return Judge(stored.unpack(Path(path).read_bytes(), like, os.fspath(path)))


def _check_labels(labels: np.ndarray, n: int, num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}; a judge needs 2 or more")
    if labels.dtype != np.int32 or labels.shape != (n,):
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)} for {n} images; "
            f"must be int32 [{n}]"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels are from {labels.min()} to {labels.max()}; with num_classes="
            f"{num_classes} they must be from 0 to {num_classes - 1}"
        )
    absent = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(absent):
        raise ValueError(
            f"there is no image of class {absent[0]}: a judge must see every class"
        )


def _checked_weights(weights: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 [num_classes]."""
    weights = np.asarray(weights, np.float32)
    good = weights.shape == (num_classes,) and np.isfinite(weights).all()
    if not good or weights.min() <= 0:
        raise ValueError(
            f"class_weights={weights.tolist()}; give {num_classes} numbers above 0"
        )
    return weights


def _batches(labels: np.ndarray, num_classes: int, seed: int, steps: int) -> np.ndarray:
    """Indices, int64 [steps, batch]: each class in random order, over and over."""
    rng = np.random.default_rng(seed)
    share = max(1, BATCH // num_classes)
    columns = []
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)
        rounds = -(-steps * share // len(members))
        order = np.concatenate([rng.permutation(members) for _ in range(rounds)])
        columns.append(order[: steps * share].reshape(steps, share))
    return np.concatenate(columns, 1)


def _natural_batches(
    labels: np.ndarray, num_classes: int, seed: int, steps: int
) -> np.ndarray:
    """Indices, int64 [steps, 32]: all images in random order, over and over."""
    rng = np.random.default_rng(seed)
    rounds = -(-steps * BATCH // len(labels))
    order = np.concatenate([rng.permutation(len(labels)) for _ in range(rounds)])
    return order[: steps * BATCH].reshape(steps, BATCH)


@functools.partial(jax.jit, static_argnums=0)
def _fresh(num_classes: int, rng: jax.Array) -> Any:
    """First weights; compiled once, however many judges are fitted."""
    return Classifier(num_classes).init(rng, jnp.zeros((1, SIZE, SIZE, 1)))["params"]


@jax.jit
def _learn(
    params: Any,
    memory: Any,
    images: jax.Array,
    labels: jax.Array,
    rng: jax.Array,
    rate: jax.Array,
    factors: jax.Array | None,
) -> tuple[Any, Any]:
    """One step on uint8 [b, s, s, 1], int32 [b] -> weights and optimizer's memory.

    factors, float32 [b], are those of each image's loss.
    """
    rngs = jax.random.split(rng, 3)
    x = disturb.move(resize(to_unit(images), SIZE), rngs[0], SHIFT)
    x = disturb.grain(disturb.soften(x, rngs[1], SOFTNESS), rngs[2], GRAIN)

    def loss(params: Any) -> jax.Array:
        error = optax.softmax_cross_entropy_with_integer_labels(
            _logits(params, x), labels
        )
        return jnp.mean(error if factors is None else factors * error)

    updates, memory = ADAMW.update(jax.grad(loss)(params), memory, params)
    updates = jax.tree.map(lambda update: -rate * update, updates)
    return optax.apply_updates(params, updates), memory


def _logits(params: Any, x: jax.Array) -> jax.Array:
    net = Classifier(len(params["head"]["bias"]))
    logits: Any = net.apply({"params": params}, x)
    return logits


@jax.jit
def _classify(params: Any, images: jax.Array) -> jax.Array:
    return nn.softmax(_logits(params, resize(to_unit(images), SIZE)))
