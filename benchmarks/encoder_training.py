"""Training of the encoder of `benchmarks.encoder`: heads, augmentation, loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from flax import linen as nn

from cxr_gan.evaluation.metrics import augmentations, cxr_encoder
from cxr_gan.evaluation.metrics.resize import resize, to_unit

EPOCHS = 40
BATCH = 48
LEARNING_RATE = 2e-3  # peak rate of AdamW; warm-up over the first 5 % of the steps
DECAY = 0.05  # weight decay of AdamW
RECONSTRUCTED = 16  # px, side of the image reconstructed from the features
RECONSTRUCTED_WEIGHT = 2.0  # of its mean squared error; the cross-entropy has weight 1
EXPOSURE_WEIGHT = 0.5  # of the mean squared error of the exposure
MAX_SHIFT = 4  # px, of the augmentation
GAIN, OFFSET = 0.2, 0.08  # of the exposure augmentation
BLUR_SIGMA = 0.8  # px, of the blur augmentation
MAX_NOISE_SIGMA = 0.03  # of the noise augmentation, for values in [0, 1]


def random_exposure(
    images: jax.Array, rng: jax.Array, gain: float, offset: float
) -> jax.Array:
    """Maps each image to a (x - 1/2) + 1/2 + b: float32 [n, s, s, 1] -> the same shape.

    a is uniform in [1 - gain, 1 + gain), b in [-offset, offset). Values are not
    clipped.
    """
    shape = (2, len(images), 1, 1, 1)
    a, b = jax.random.uniform(rng, shape, minval=-1, maxval=1)
    return (1 + gain * a) * (images - 0.5) + 0.5 + offset * b


class Heads(nn.Module):
    """Predictions from the features: class, image at 16 x 16 px, exposure."""

    num_classes: int

    @nn.compact
    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """float32 [n, 64] -> logits [n, num_classes], [n, 16, 16, 1], [n, 2]."""
        image = nn.Dense(RECONSTRUCTED**2, name="drawn")(features)
        return (
            nn.Dense(self.num_classes, name="class")(features),
            image.reshape(-1, RECONSTRUCTED, RECONSTRUCTED, 1),
            nn.Dense(2, name="exposure")(features),
        )


def augment(
    images: jax.Array, rng: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """uint8 [n, 64, 64, 1] -> the network's input, image target and exposure target.

    The image target [n, 16, 16, 1] is only shifted and is standardised; the exposure
    target is taken before blur and noise.
    """
    rngs = jax.random.split(rng, 4)
    shifted = augmentations.random_shift(to_unit(images), rngs[0], MAX_SHIFT)
    exposed = random_exposure(shifted, rngs[1], GAIN, OFFSET)
    x = augmentations.random_blur(exposed, rngs[2], BLUR_SIGMA)
    x = augmentations.random_noise(x, rngs[3], MAX_NOISE_SIGMA)
    return x, coarse(shifted), exposure(exposed)


def coarse(images: jax.Array) -> jax.Array:
    """float32 [n, 64, 64, 1] -> [n, 16, 16, 1], each standardised."""
    small = resize(images, RECONSTRUCTED)
    mean = small.mean((1, 2, 3), keepdims=True)
    deviation = small.std((1, 2, 3), keepdims=True)
    return (small - mean) / (deviation + 1e-3)


def exposure(images: jax.Array) -> jax.Array:
    """float32 [n, s, s, 1] -> [n, 2]: scaled brightness and log contrast."""
    mean, deviation = images.mean((1, 2, 3)), images.std((1, 2, 3))
    return jnp.stack([10 * (mean - 0.5), 5 * jnp.log(5 * deviation + 1e-3)], 1)


def loss(
    params: Any, images: jax.Array, labels: jax.Array, rng: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """uint8 [n, 64, 64, 1], int32 [n] -> the weighted sum, and its three parts [3]."""
    x, image_target, exposure_target = augment(images, rng)
    features: Any = cxr_encoder.Encoder().apply({"params": params["encoder"]}, x)
    logits, image, light = predict(params["heads"], features)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(
        logits, labels
    ).mean()
    errors = (
        ((image - image_target) ** 2).mean(),
        ((light - exposure_target) ** 2).mean(),
    )
    total = (
        cross_entropy + RECONSTRUCTED_WEIGHT * errors[0] + EXPOSURE_WEIGHT * errors[1]
    )
    return total, jnp.stack([cross_entropy, *errors])


def predict(heads: Any, features: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The predictions of the heads from features [n, 64]; see `Heads`."""
    num_classes = len(heads["class"]["bias"])
    predictions: Any = Heads(num_classes).apply({"params": heads}, features)
    return predictions


def fit(images: np.ndarray, labels: np.ndarray, num_classes: int, seed: int) -> Any:
    """Trains on uint8 [n, 64, 64, 1], int32 [n]; returns encoder and head params."""
    batches = len(images) // BATCH
    total = EPOCHS * batches
    rate = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, total // 20, total)
    optimizer = optax.adamw(rate, weight_decay=DECAY)

    @jax.jit
    def step(params: Any, opt_state: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
        grads, parts = jax.grad(loss, has_aux=True)(params, *batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, parts

    encoder_key, heads_key, step_key = jax.random.split(jax.random.key(seed), 3)
    image, features = (
        jnp.zeros((1, 64, 64, 1)),
        jnp.zeros((1, cxr_encoder.DIMENSION)),
    )
    params: Any = {
        "encoder": cxr_encoder.Encoder().init(encoder_key, image)["params"],
        "heads": Heads(num_classes).init(heads_key, features)["params"],
    }
    opt_state = optimizer.init(params)
    rng = np.random.default_rng(seed)
    with tqdm.tqdm(total=total, desc="Training the encoder") as bar:
        for epoch in range(EPOCHS):
            order = rng.permutation(len(images))[: batches * BATCH]
            for index, rows in enumerate(order.reshape(batches, BATCH)):
                rng_key = jax.random.fold_in(step_key, epoch * batches + index)
                batch = images[rows], labels[rows], rng_key
                params, opt_state, parts = step(params, opt_state, batch)
                bar.update()
            cross_entropy, image_error, exposure_error = parts.tolist()
            bar.set_postfix_str(
                f"class {cross_entropy:.2f}, image {image_error:.2f}, "
                f"exposure {exposure_error:.2f}"
            )
    return params
