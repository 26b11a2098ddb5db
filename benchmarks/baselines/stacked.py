"""A GAN trained by `train_on_batch`, as in Keras notebooks: three calls per step.

They train D on real images, D on generated images of `predict`, and G through a frozen
D: a model in which both networks are stacked.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.baselines.keras_baseline import augment, set_threads
from benchmarks.baselines.keras_networks import discriminator, generator
from benchmarks.baselines.settings import Settings


class Stacked:
    """Trains any G of noise and label, and any D with two outputs.

    Args:
        settings: batch size, number of classes and augmentation.
        networks: G, and D as it is trained: image [n, s, s, 1] -> score [n, 1] and
            classes [n, k].
        losses: of both outputs, as `keras.Model.compile` takes them.
        weights: of both losses in D's update, and in G's.
        adam: returns a new optimizer.
    """

    def __init__(
        self,
        settings: Settings,
        networks: tuple[keras.Model, keras.Model],
        losses: list[Any],
        weights: tuple[list[float], list[float]],
        adam: Callable[[], keras.optimizers.Optimizer],
    ):
        self._settings, self._rng = settings, np.random.default_rng(0)
        self.g, self.d = networks
        self._latent_size = self.g.inputs[0].shape[-1]
        self.d.compile(adam(), losses, weights[0])
        self.stacked = keras.Model(self.g.inputs, self.d(self.g.outputs[0]))
        self.stacked.compile(adam(), losses, weights[1])
        image, self._label = settings.batch()
        self._real = image.astype(np.float32) / 127.5 - 1

    def train(self, steps: int) -> None:
        """Runs steps on one batch in memory."""
        for _ in range(steps):
            self.train_step(self._real, self._label)

    def train_step(self, real: np.ndarray, label: np.ndarray) -> None:
        """Updates D on real images, D on generated images, then G.

        The class loss of generated images has weight 0 in D's update, because they may
        not show their class yet.

        Args:
            real: float32 [n, s, s, 1] in [-1, 1].
            label: int32 [n].
        """
        n = len(label)
        ones, zeros = np.ones((n, 1), np.float32), np.zeros((n, 1), np.float32)
        weight_1, weight_0 = np.ones(n, np.float32), np.zeros(n, np.float32)
        self.d.trainable = True
        self.d.train_on_batch(real, [ones, label], [weight_1, weight_1])
        fake = self.generate(label)
        self.d.train_on_batch(fake, [zeros, label], [weight_1, weight_0])
        self.d.trainable = False
        self.stacked.train_on_batch([self._noise(n), label], [ones, label])

    def _noise(self, count: int) -> np.ndarray:
        return self._rng.standard_normal((count, self._latent_size), np.float32)

    def generate(self, label: np.ndarray) -> np.ndarray:
        """Images of `predict`, in one batch: int32 [n] -> [n, s, s, 1] in [-1, 1]."""
        inputs = [self._noise(len(label)), label]
        return self.g.predict(inputs, batch_size=len(label), verbose=0)

    def sample(self, count: int) -> np.ndarray:
        """Images of `predict`, in one batch."""
        label = np.arange(count, dtype=np.int32) % self._settings.num_classes
        return self.generate(label) * 0.5 + 0.5


class Augment(keras.layers.Layer):
    """`keras_baseline.augment` of images [n, s, s, 1], as the first layer of D."""

    def __init__(self, settings: Settings):
        super().__init__()
        self.settings = settings

    def call(self, image: Any) -> Any:
        """Returns an array of the same shape."""
        return augment(image, self.settings)


def build(settings: Settings, cores: int) -> Stacked:
    """The networks of cxr_gan, with those of its losses that `compile` can express."""
    set_threads(cores)
    image = keras.Input((settings.resolution, settings.resolution, 1))
    outputs = discriminator(settings)(Augment(settings)(image))
    augmented_discriminator = keras.Model(image, outputs)

    def adam() -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(
            settings.learning_rate,
            settings.beta1,
            settings.beta2,
            use_ema=True,
            ema_momentum=settings.ema_decay,
            ema_overwrite_frequency=None,
        )

    class_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Stacked(
        settings,
        networks=(generator(settings), augmented_discriminator),
        losses=["mean_squared_error", class_loss],
        weights=([0.5, settings.class_weight_d], [0.5, settings.class_weight_g]),
        adam=adam,
    )
