"""The training step of cxr_gan in Keras, on TensorFlow, as one graph.

Real and generated images go through D in one batch. Both updates use one forward pass
of G.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.baselines.keras_networks import discriminator, generator
from benchmarks.baselines.settings import Settings

DIVERSITY_SIZE = 16  # pixels per side at which the diversity of images is compared
Losses = dict[str, tf.Tensor]


def augment(image: tf.Tensor, settings: Settings) -> tf.Tensor:
    """Brightness, contrast, cutout, translation, as cxr_gan.training.augmentation."""
    n, size = tf.shape(image)[0], settings.resolution
    image += settings.brightness * (tf.random.uniform([n, 1, 1, 1]) - 0.5)
    mean = tf.reduce_mean(image, [1, 2, 3], keepdims=True)
    factor = 1 + settings.contrast * (2 * tf.random.uniform([n, 1, 1, 1]) - 1)
    image = (image - mean) * factor + mean
    index, side = tf.range(size), round(settings.cutout * size)
    limit = size + 1 - side % 2
    first = tf.random.uniform([2, n, 1], 0, limit, tf.int32) - side // 2
    inside = tf.cast((first <= index) & (index < first + side), tf.float32)
    image *= 1 - inside[0][:, :, None, None] * inside[1][:, None, :, None]
    reach = round(settings.translation * size)
    shift = tf.random.uniform([2, n, 1, 1], -reach, reach + 1, tf.int32)
    matrices = tf.cast(index[:, None] == index + shift, tf.float32)
    shifted = matrices[0] @ image[..., 0] @ tf.transpose(matrices[1], [0, 2, 1])
    return shifted[..., None]


def diversity(real: tf.Tensor, fake: tf.Tensor, settings: Settings) -> tf.Tensor:
    """cxr_gan.training.loss_terms.diversity_loss without its weight -> []."""
    size, k = min(DIVERSITY_SIZE, settings.resolution), settings.num_classes

    def variation(x: tf.Tensor) -> tf.Tensor:
        block = settings.resolution // size
        x = tf.nn.avg_pool2d(x, block, block, "VALID")
        mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
        x = (x - mean) * tf.math.rsqrt(variance + 1e-5)
        groups = tf.reshape(x, [-1, settings.group_size // k, k, size, size])
        return tf.reduce_mean(tf.abs(groups - tf.roll(groups, 1, 1)), [1, 3, 4])

    a, b = variation(real), variation(fake)
    return tf.reduce_mean((2 * (a - b) / (a + b + 1e-6)) ** 2)


class KerasBaseline:
    """Both networks and their optimizers; `update` is one training step."""

    def __init__(self, settings: Settings):
        self.settings, self._rng = settings, np.random.default_rng(0)
        self.g, self.d = generator(settings), discriminator(settings)
        self.ema = [tf.Variable(w, trainable=False) for w in self.g.trainable_weights]
        self.steps = tf.Variable(0, trainable=False)
        self.adam_g, self.adam_d = (
            keras.optimizers.Adam(
                settings.learning_rate, settings.beta1, settings.beta2
            )
            for _ in range(2)
        )
        self.adam_g.build(self.g.trainable_variables)
        self.adam_d.build(self.d.trainable_variables)
        self._batch = settings.batch()
        self._step: Any = tf.function(self._random_update)
        self._generate: Any = tf.function(self.g, reduce_retracing=True)

    def train(self, steps: int) -> None:
        """Waits for the losses of each step."""
        for _ in range(steps):
            losses = self._step(*self._batch)
            losses["g/adversarial"].numpy()

    def _random_update(self, image: tf.Tensor, label: tf.Tensor) -> Losses:
        z = tf.random.normal([self.settings.batch_size, self.settings.latent_size])
        return self.update(image, label, z)

    def sample(self, count: int) -> np.ndarray:
        """Images of one batch."""
        label = np.arange(count, dtype=np.int32) % self.settings.num_classes
        z = self._rng.standard_normal((count, self.settings.latent_size), np.float32)
        return self._generate([z, label]).numpy() * 0.5 + 0.5

    def update(self, image: tf.Tensor, label: tf.Tensor, z: tf.Tensor) -> Losses:
        """Updates D, then G, then the EMA of G; losses without their weights."""
        real = tf.cast(image, tf.float32) / 127.5 - 1
        real_augmented = augment(real, self.settings)
        with tf.GradientTape() as tape:
            fake = self.g([z, label], training=True)
        losses_d = self._update_discriminator(real_augmented, fake, label)
        gradient, losses_g = self._generator_losses(real, fake, label)
        weights = self.g.trainable_variables
        self.adam_g.apply(tape.gradient(fake, weights, gradient), weights)
        for mean, weight in zip(self.ema, weights, strict=True):
            mean.assign_add((1 - self.settings.ema_decay) * (weight.value - mean))
        self.steps.assign_add(1)
        return {**losses_d, **losses_g}

    def _update_discriminator(
        self, real: tf.Tensor, fake: tf.Tensor, label: tf.Tensor
    ) -> Losses:
        """`real` is augmented, `fake` is not."""
        settings, weights = self.settings, self.d.trainable_variables
        both = tf.concat([real, augment(fake, settings)], 0)
        with tf.GradientTape() as tape:
            score, logits = self.d(both, training=True)
            real_score, fake_score = tf.split(score[:, 0], 2)
            adversarial = tf.reduce_mean(
                0.5 * (real_score - 1) ** 2 + 0.5 * fake_score**2
            )
            class_loss = self._class_loss(label, logits[: settings.batch_size])
            total = adversarial + settings.class_weight_d * class_loss
        grads = tape.gradient(total, weights)
        r1, *r1_grads = tf.cond(
            self.steps % settings.r1_interval == 0,
            lambda: self._gradient_penalty(real),
            lambda: [tf.zeros(()), *map(tf.zeros_like, weights)],
        )
        pairs = zip(grads, r1_grads, strict=True)
        self.adam_d.apply([a + b for a, b in pairs], weights)
        return {"d/adversarial": adversarial, "d/class": class_loss, "d/r1": r1}

    def _gradient_penalty(self, real: tf.Tensor) -> list[tf.Tensor]:
        """Weighted R1, multiplied by its interval, and its gradient in D's weights."""
        settings = self.settings
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(real)
                score, _ = self.d(real, training=True)
            gradient = inner.gradient(score, real)
            penalty = 0.5 * tf.reduce_sum(gradient**2, [1, 2, 3])
            r1 = settings.r1_weight * settings.r1_interval * tf.reduce_mean(penalty)
        weights = [weight.value for weight in self.d.trainable_variables]
        zero = tf.UnconnectedGradients.ZERO  # for weights that the score does not use
        return [r1, *tape.gradient(r1, weights, unconnected_gradients=zero)]

    def _generator_losses(
        self, real: tf.Tensor, fake: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, Losses]:
        """Gradient in the generated images, and losses; D's weights are not watched."""
        settings = self.settings
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(fake)
            score, logits = self.d(augment(fake, settings), training=True)
            adversarial = tf.reduce_mean(0.5 * (score - 1) ** 2)
            class_loss = self._class_loss(label, logits)
            mismatch = diversity(real, fake, settings)
            total = adversarial + settings.class_weight_g * class_loss
            total += settings.diversity_weight * mismatch
        losses = {
            "g/adversarial": adversarial,
            "g/class": class_loss,
            "g/diversity": mismatch,
        }
        return tape.gradient(total, fake), losses

    def _class_loss(self, label: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
        return tf.reduce_mean(losses)


def build(settings: Settings, cores: int) -> KerasBaseline:
    """The program on one thread per core; call it before TensorFlow is used."""
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    keras.utils.set_random_seed(0)
    return KerasBaseline(settings)
