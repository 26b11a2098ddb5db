"""How the encoder of `benchmarks.encoder` is taught: heads, augmentation, loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from flax import linen as nn

from cxr_gan.metrics import disturb, encoder
from cxr_gan.metrics.resize import resize, to_unit

EPOCHS = 40
BATCH = 48
LEARNING_RATE = 2e-3  # of AdamW at its highest; rises for a twentieth of the run
DECAY = 0.05  # of AdamW
DRAWN = 16  # px, side of the image drawn again from the features
DRAWN_WEIGHT = 2.0  # of its mean squared error, beside the cross-entropy
EXPOSURE_WEIGHT = 0.5  # of the mean squared error of the exposure
SHIFT = 4  # px, up to which images are moved
GAIN, OFFSET = 0.2, 0.08  # of exposures
SOFTNESS = 0.8  # px, deviation of the Gaussian mixed in
GRAIN = 0.03  # largest deviation of the noise added, of values in [0, 1]


class Heads(nn.Module):
    """What the features must tell: class, image at 16 x 16 px, exposure."""

    num_classes: int

    @nn.compact
    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """float32 [n, 64] -> logits [n, num_classes], [n, 16, 16, 1], [n, 2]."""
        drawn = nn.Dense(DRAWN**2, name="drawn")(features)
        return (
            nn.Dense(self.num_classes, name="class")(features),
            drawn.reshape(-1, DRAWN, DRAWN, 1),
            nn.Dense(2, name="exposure")(features),
        )


def disturbed(
    images: jax.Array, rng: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """uint8 [n, 64, 64, 1] -> what the network sees, and what it is to tell of it.

    The image to draw again, [n, 16, 16, 1], was moved but is otherwise clean, and in
    units of its own spread; the exposure is that before blur and grain.
    """
    rngs = jax.random.split(rng, 4)
    moved = disturb.move(to_unit(images), rngs[0], SHIFT)
    exposed = disturb.expose(moved, rngs[1], GAIN, OFFSET)
    seen = disturb.soften(exposed, rngs[2], SOFTNESS)
    seen = disturb.grain(seen, rngs[3], GRAIN)
    return seen, coarse(moved), exposure(exposed)


def coarse(images: jax.Array) -> jax.Array:
    """float32 [n, 64, 64, 1] -> [n, 16, 16, 1], each of mean 0 and deviation 1."""
    small = resize(images, DRAWN)
    mean = small.mean((1, 2, 3), keepdims=True)
    spread = small.std((1, 2, 3), keepdims=True)
    return (small - mean) / (spread + 1e-3)


def exposure(images: jax.Array) -> jax.Array:
    """float32 [n, s, s, 1] -> [n, 2]: brightness and log contrast, both of order 1."""
    mean, spread = images.mean((1, 2, 3)), images.std((1, 2, 3))
    return jnp.stack([10 * (mean - 0.5), 5 * jnp.log(5 * spread + 1e-3)], 1)


def loss(
    params: Any, images: jax.Array, labels: jax.Array, rng: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of uint8 [n, 64, 64, 1], int32 [n] -> the sum, and its three parts [3]."""
    seen, clean, light = disturbed(images, rng)
    read: Any = encoder.Encoder().apply({"params": params["encoder"]}, seen)
    logits, drawn, lit = tell(params["heads"], read)
    told = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    errors = ((drawn - clean) ** 2).mean(), ((lit - light) ** 2).mean()
    total = told + DRAWN_WEIGHT * errors[0] + EXPOSURE_WEIGHT * errors[1]
    return total, jnp.stack([told, *errors])


def tell(heads: Any, features: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the heads make of features [n, 64]."""
    num_classes = len(heads["class"]["bias"])
    told: Any = Heads(num_classes).apply({"params": heads}, features)
    return told


def fit(images: np.ndarray, labels: np.ndarray, num_classes: int, seed: int) -> Any:
    """uint8 [n, 64, 64, 1], int32 [n] -> weights {"encoder", "heads"}."""
    rounds = len(images) // BATCH
    total = EPOCHS * rounds
    rate = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, total // 20, total)
    optimizer = optax.adamw(rate, weight_decay=DECAY)

    @jax.jit
    def step(params: Any, memory: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
        grads, parts = jax.grad(loss, has_aux=True)(params, *batch)
        updates, memory = optimizer.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory, parts

    at_first, at_heads, steps = jax.random.split(jax.random.key(seed), 3)
    blank, no_features = jnp.zeros((1, 64, 64, 1)), jnp.zeros((1, encoder.DIMENSION))
    params: Any = {
        "encoder": encoder.Encoder().init(at_first, blank)["params"],
        "heads": Heads(num_classes).init(at_heads, no_features)["params"],
    }
    memory = optimizer.init(params)
    rng = np.random.default_rng(seed)
    with tqdm.tqdm(total=total, desc="Training the encoder") as bar:
        for epoch in range(EPOCHS):
            order = rng.permutation(len(images))[: rounds * BATCH]
            for at, which in enumerate(order.reshape(rounds, BATCH)):
                now = jax.random.fold_in(steps, epoch * rounds + at)
                batch = images[which], labels[which], now
                params, memory, parts = step(params, memory, batch)
                bar.update()
            told, drawn, lit = parts.tolist()
            bar.set_postfix_str(f"class {told:.2f}, drawn {drawn:.2f}, lit {lit:.2f}")
    return params
