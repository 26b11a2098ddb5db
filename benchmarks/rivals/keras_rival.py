"""The round of cxr_gan in Keras, on TensorFlow: one graph for all of it.

Real and generated images judged in one batch; one forward pass of G for both turns.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.rivals.keras_networks import discriminator, generator
from benchmarks.rivals.rules import Rules

AFAR = 16  # pixels a side, at which images are compared for sameness
Losses = dict[str, tf.Tensor]


def augment(image: tf.Tensor, rules: Rules) -> tf.Tensor:
    """As cxr_gan.augment: brightness, contrast, cutout, translation."""
    n, size = tf.shape(image)[0], rules.resolution
    image += rules.brightness * (tf.random.uniform([n, 1, 1, 1]) - 0.5)
    mean = tf.reduce_mean(image, [1, 2, 3], keepdims=True)
    factor = 1 + rules.contrast * (2 * tf.random.uniform([n, 1, 1, 1]) - 1)
    image = (image - mean) * factor + mean
    place, side = tf.range(size), round(rules.cutout * size)
    most = size + 1 - side % 2
    first = tf.random.uniform([2, n, 1], 0, most, tf.int32) - side // 2
    inside = tf.cast((first <= place) & (place < first + side), tf.float32)
    image *= 1 - inside[0][:, :, None, None] * inside[1][:, None, :, None]
    reach = round(rules.translation * size)
    by = tf.random.uniform([2, n, 1, 1], -reach, reach + 1, tf.int32)
    moved = tf.cast(place[:, None] == place + by, tf.float32)
    shifted = moved[0] @ image[..., 0] @ tf.transpose(moved[1], [0, 2, 1])
    return shifted[..., None]


def sameness(real: tf.Tensor, fake: tf.Tensor, rules: Rules) -> tf.Tensor:
    """As cxr_gan.terms.repetition, without its weight."""
    size, k = min(AFAR, rules.resolution), rules.num_classes

    def spread(x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.avg_pool2d(
            x, rules.resolution // size, rules.resolution // size, "VALID"
        )
        mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
        x = (x - mean) * tf.math.rsqrt(variance + 1e-5)
        mates = tf.reshape(x, [-1, rules.group // k, k, size, size])
        return tf.reduce_mean(tf.abs(mates - tf.roll(mates, 1, 1)), [1, 3, 4])

    a, b = spread(real), spread(fake)
    return tf.reduce_mean((2 * (a - b) / (a + b + 1e-6)) ** 2)


class KerasGan(keras.Model):
    """Both players and their optimizers; a round is its `train_step`."""

    def __init__(self, rules: Rules):
        super().__init__()
        self.rules = rules
        self.g, self.d = generator(rules), discriminator(rules)
        self.ema = [tf.Variable(w, trainable=False) for w in self.g.trainable_weights]
        self.rounds = tf.Variable(0, trainable=False)
        self.adam_g, self.adam_d = (
            keras.optimizers.Adam(rules.learning_rate, rules.beta1, rules.beta2)
            for _ in range(2)
        )
        self.adam_g.build(self.g.trainable_variables)
        self.adam_d.build(self.d.trainable_variables)

    def train_step(self, data: tuple[tf.Tensor, ...]) -> Losses:
        """(uint8 [n, s, s, 1], label int32 [n], and what Keras adds) -> losses."""
        image, label, *_ = data
        z = tf.random.normal([self.rules.batch_size, self.rules.latent_size])
        return self.round(image, label, z)

    def round(self, image: tf.Tensor, label: tf.Tensor, z: tf.Tensor) -> Losses:
        """D's turn, G's turn, the average."""
        real = tf.cast(image, tf.float32) / 127.5 - 1
        shown = augment(real, self.rules)
        with tf.GradientTape() as tape:
            fake = self.g([z, label], training=True)
        losses = self._turn_of_d(shown, fake, label)
        toward, of_g = self._turn_of_g(real, fake, label)
        weights = self.g.trainable_variables
        self.adam_g.apply(tape.gradient(fake, weights, toward), weights)
        for mean, weight in zip(self.ema, weights, strict=True):
            mean.assign_add((1 - self.rules.ema_keep) * (weight.value - mean))
        self.rounds.assign_add(1)
        return {**losses, **of_g}

    def _turn_of_d(self, shown: tf.Tensor, fake: tf.Tensor, label: tf.Tensor) -> Losses:
        rules, weights = self.rules, self.d.trainable_variables
        both = tf.concat([shown, augment(fake, rules)], 0)
        with tf.GradientTape() as tape:
            realness, logits = self.d(both, training=True)
            on_real, on_fake = tf.split(realness[:, 0], 2)
            adversarial = tf.reduce_mean(0.5 * (on_real - 1) ** 2 + 0.5 * on_fake**2)
            classes = self._classes(label, logits[: rules.batch_size])
            total = adversarial + rules.class_weight_d * classes
        slope = tape.gradient(total, weights)
        penalty, *uphill = tf.cond(
            self.rounds % rules.r1_every == 0,
            lambda: self._penalty(shown),
            lambda: [tf.zeros(()), *map(tf.zeros_like, weights)],
        )
        pairs = zip(slope, uphill, strict=True)
        self.adam_d.apply([a + b for a, b in pairs], weights)
        return {"d/adversarial": adversarial, "d/class": classes, "d/penalty": penalty}

    def _penalty(self, shown: tf.Tensor) -> list[tf.Tensor]:
        """R1, and its slope in every weight of D."""
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(shown)
                realness, _ = self.d(shown, training=True)
            each = 0.5 * tf.reduce_sum(inner.gradient(realness, shown) ** 2, [1, 2, 3])
            penalty = self.rules.r1_weight * self.rules.r1_every * tf.reduce_mean(each)
        weights = [weight.value for weight in self.d.trainable_variables]
        zero = tf.UnconnectedGradients.ZERO  # where realness hangs on none
        return [penalty, *tape.gradient(penalty, weights, unconnected_gradients=zero)]

    def _turn_of_g(
        self, real: tf.Tensor, fake: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, Losses]:
        """The slope in G's images, and losses; D's weights are not watched."""
        rules = self.rules
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(fake)
            realness, logits = self.d(augment(fake, rules), training=True)
            adversarial = tf.reduce_mean(0.5 * (realness - 1) ** 2)
            classes = self._classes(label, logits)
            same = sameness(real, fake, rules)
            total = adversarial + rules.class_weight_g * classes
            total += rules.sameness_weight * same
        losses = {"g/adversarial": adversarial, "g/class": classes, "g/same": same}
        return tape.gradient(total, fake), losses

    def _classes(self, label: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
        return tf.reduce_mean(each)


class KerasRival:
    """`KerasGan`, trained by a graph of our own."""

    def __init__(self, rules: Rules):
        self.gan = KerasGan(rules)
        self._batch = rules.batch()
        self._step: Any = tf.function(self.gan.train_step)
        self._draw: Any = tf.function(self.gan.g, reduce_retracing=True)
        self._rules, self._rng = rules, np.random.default_rng(0)

    def play(self, rounds: int) -> None:
        """Each is done when its losses have been read."""
        for _ in range(rounds):
            losses = self._step(self._batch)
            losses["g/adversarial"].numpy()

    def sample(self, count: int) -> np.ndarray:
        """All in one batch."""
        label = np.arange(count, dtype=np.int32) % self._rules.num_classes
        z = self._rng.standard_normal((count, self._rules.latent_size), np.float32)
        return self._draw([z, label]).numpy() * 0.5 + 0.5


def use_threads(cores: int) -> None:
    """Before TensorFlow is used."""
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    keras.utils.set_random_seed(0)


def build(rules: Rules, cores: int) -> KerasRival:
    """On so many threads."""
    use_threads(cores)
    return KerasRival(rules)
