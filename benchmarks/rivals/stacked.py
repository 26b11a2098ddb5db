"""A GAN by `train_on_batch`, as Keras notebooks train one: three calls a round.

D on real images, D on generated ones, which `predict` draws, and G through a D that is
not to learn: both networks stacked in one model.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.rivals.keras_networks import discriminator, generator
from benchmarks.rivals.keras_rival import augment, use_threads
from benchmarks.rivals.rules import Rules


class Stacked:
    """Any two such networks: G of noise and label, D with two answers.

    Args:
        rules: batch, threads and augmentation.
        networks: G, and D as it learns: of an image [n, s, s, 1] its realness [n, 1]
            and classes [n, k].
        losses: of both answers, as `keras.Model.compile` takes them.
        weights: of both losses in D's turn, and in G's.
        adam: makes an optimizer.
    """

    def __init__(
        self,
        rules: Rules,
        networks: tuple[keras.Model, keras.Model],
        losses: list[Any],
        weights: tuple[list[float], list[float]],
        adam: Callable[[], keras.optimizers.Optimizer],
    ):
        self._rules, self._rng = rules, np.random.default_rng(0)
        self.g, self.d = networks
        self._latent = self.g.inputs[0].shape[-1]
        self.d.compile(adam(), losses, weights[0])
        self.stacked = keras.Model(self.g.inputs, self.d(self.g.outputs[0]))
        self.stacked.compile(adam(), losses, weights[1])
        image, self._label = rules.batch()
        self._real = image.astype(np.float32) / 127.5 - 1

    def play(self, rounds: int) -> None:
        """So many rounds on one batch in memory."""
        for _ in range(rounds):
            self.learn(self._real, self._label)

    def learn(self, real: np.ndarray, label: np.ndarray) -> None:
        """D on real, D on generated, G through D.

        The class of generated images, which may not show it yet, D is not taught.
        real float32 [n, s, s, 1] in [-1, 1], label int32 [n].
        """
        n = len(label)
        ones, zeros = np.ones((n, 1), np.float32), np.zeros((n, 1), np.float32)
        heeded, ignored = np.ones(n, np.float32), np.zeros(n, np.float32)
        self.d.trainable = True
        self.d.train_on_batch(real, [ones, label], [heeded, heeded])
        self.d.train_on_batch(self.draw(label), [zeros, label], [heeded, ignored])
        self.d.trainable = False
        self.stacked.train_on_batch([self._noise(n), label], [ones, label])

    def _noise(self, count: int) -> np.ndarray:
        return self._rng.standard_normal((count, self._latent), np.float32)

    def draw(self, label: np.ndarray) -> np.ndarray:
        """By `predict`, all in one batch: int32 [n] -> [n, s, s, 1] in [-1, 1]."""
        inputs = [self._noise(len(label)), label]
        return self.g.predict(inputs, batch_size=len(label), verbose=0)

    def sample(self, count: int) -> np.ndarray:
        """By `predict`, all in one batch."""
        label = np.arange(count, dtype=np.int32) % self._rules.num_classes
        return self.draw(label) * 0.5 + 0.5


class Augment(keras.layers.Layer):
    """What D sees of an image [n, s, s, 1]: see `keras_rival.augment`."""

    def __init__(self, rules: Rules):
        super().__init__()
        self.rules = rules

    def call(self, image: Any) -> Any:
        """The same shape."""
        return augment(image, self.rules)


def build(rules: Rules, cores: int) -> Stacked:
    """The networks of cxr_gan and what of its losses `compile` can be told."""
    use_threads(cores)
    image = keras.Input((rules.resolution, rules.resolution, 1))
    judge = keras.Model(image, discriminator(rules)(Augment(rules)(image)))

    def adam() -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(
            rules.learning_rate,
            rules.beta1,
            rules.beta2,
            use_ema=True,
            ema_momentum=rules.ema_keep,
            ema_overwrite_frequency=None,
        )

    classes = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Stacked(
        rules,
        networks=(generator(rules), judge),
        losses=["mean_squared_error", classes],
        weights=([0.5, rules.class_weight_d], [0.5, rules.class_weight_g]),
        adam=adam,
    )
