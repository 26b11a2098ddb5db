"""The auxiliary-classifier GAN of public notebooks on radiographs, as they run it.

64 x 64 px; G of 5 x 5 transposed convolutions with batch normalization, D of strided
convolutions with dropout; binary and class cross-entropy; Adam; `train_on_batch` on
real, on generated images and on both networks stacked, images by `predict`. No R1,
augmentation, average or term against repetition: less is asked of it than of others.

Source: Odena et al. 2017, "Auxiliary Classifier GANs", appendix A (kernels and strides;
the widths are the notebooks').
"""

import keras
import numpy as np
from keras import layers

from benchmarks.rivals.keras_rival import use_threads
from benchmarks.rivals.rules import Rules

LATENT = 100


def generator(num_classes: int) -> keras.Model:
    """[z [n, 100], label int32 [n]] -> [n, 64, 64, 1] in [-1, 1]."""
    z, label = keras.Input((LATENT,)), keras.Input((), dtype="int32")
    spot = layers.Dense(4 * 4)(layers.Embedding(num_classes, 50)(label))
    x = layers.Dense(4 * 4 * 512, activation="relu")(z)
    x = layers.Concatenate()(
        [layers.Reshape((4, 4, 512))(x), layers.Reshape((4, 4, 1))(spot)]
    )
    for features in (512, 256, 128):
        x = layers.Conv2DTranspose(features, 5, strides=2, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    image = layers.Conv2DTranspose(1, 5, strides=2, padding="same", activation="tanh")
    return keras.Model([z, label], image(x))


def discriminator(num_classes: int) -> keras.Model:
    """Image [n, 64, 64, 1] -> [probability of real [n, 1], of each class [n, k]]."""
    image = keras.Input((64, 64, 1))
    x = image
    for features, stride in ((32, 2), (64, 2), (128, 2), (256, 2), (512, 1)):
        x = layers.Conv2D(features, 3, strides=stride, padding="same")(x)
        x = layers.Dropout(0.5)(layers.LeakyReLU(0.2)(x))
    x = layers.Flatten()(x)
    real = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model(
        image, [real, layers.Dense(num_classes, activation="softmax")(x)]
    )


class PublicAcgan:
    """Three calls of `train_on_batch` a round."""

    def __init__(self, rules: Rules):
        if rules.resolution != 64:
            raise ValueError(f"the public layout is of 64 px, not {rules.resolution}")
        self._rules, self._rng = rules, np.random.default_rng(0)
        self.g = generator(rules.num_classes)
        self.d = discriminator(rules.num_classes)
        losses = ["binary_crossentropy", "sparse_categorical_crossentropy"]
        self.d.compile(keras.optimizers.Adam(2e-4, 0.5), losses)
        self.stacked = keras.Model(self.g.inputs, self.d(self.g.outputs[0]))
        self.stacked.compile(keras.optimizers.Adam(2e-4, 0.5), losses)
        image, self._label = rules.batch()
        self._real = image.astype(np.float32) / 127.5 - 1

    def play(self, rounds: int) -> None:
        """D on real, D on generated, G through D."""
        n, label = self._rules.batch_size, self._label
        ones, zeros = np.ones((n, 1), np.float32), np.zeros((n, 1), np.float32)
        for _ in range(rounds):
            self.d.trainable = True
            self.d.train_on_batch(self._real, [ones, label])
            self.d.train_on_batch(self._draw(label), [zeros, label])
            self.d.trainable = False
            self.stacked.train_on_batch([self._noise(n), label], [ones, label])

    def _noise(self, count: int) -> np.ndarray:
        return self._rng.standard_normal((count, LATENT), np.float32)

    def _draw(self, label: np.ndarray) -> np.ndarray:
        inputs = [self._noise(len(label)), label]
        return self.g.predict(inputs, batch_size=len(label), verbose=0)

    def sample(self, count: int) -> np.ndarray:
        """By `predict`, all in one batch."""
        label = np.arange(count, dtype=np.int32) % self._rules.num_classes
        return self._draw(label) * 0.5 + 0.5


def build(rules: Rules, cores: int) -> PublicAcgan:
    """On so many threads."""
    use_threads(cores)
    return PublicAcgan(rules)
