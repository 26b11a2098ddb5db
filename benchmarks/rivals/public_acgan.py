"""The auxiliary-classifier GAN of a public notebook on radiographs, as it is run.

64 x 64 px; G of 5 x 5 transposed convolutions, D of strided ones after one at full
resolution, with dropout, batch normalization in both; binary and class cross-entropy;
Adam; `train_on_batch`, images by `predict`. No R1, augmentation, average or term
against repetition: less is asked of it than of others.

Source: github.com/giocoal/CXR-ACGAN-chest-xray-generator-covid19-pneumonia, cells of
AC-cGAN-training.ipynb that define both networks and the round; described here, and
written anew. Ours start at 4 x 4 pixels in place of 7 x 7, for 64 in place of 112 a
side, and have one channel, not three of the same grey.
"""

import keras
import numpy as np
from keras import layers

from benchmarks.rivals.keras_rival import use_threads
from benchmarks.rivals.rules import Rules
from benchmarks.rivals.stacked import Stacked

LATENT, EMBEDDING = 100, 100
SMOOTHED = 0.2  # so much, at most, are D's targets off 0 and 1


class PublicAcgan(Stacked):
    """A round as the notebook plays it: D on both at once, G on twice as many."""

    def learn(self, real: np.ndarray, label: np.ndarray) -> None:
        """real float32 [n, 64, 64, 1] in [-1, 1], label int32 [n]: 3n are drawn."""
        n, asked = len(label), self._classes(len(label))
        target = np.concatenate([np.ones((n, 1)), np.zeros((n, 1))])
        target += SMOOTHED * self._rng.random((2 * n, 1)) * (1 - 2 * target)
        both = np.concatenate([real, self.draw(asked)])
        self.d.trainable = True
        self.d.train_on_batch(both, [target, np.concatenate([label, asked])])
        self.d.trainable = False
        asked, ones = self._classes(2 * n), np.ones((2 * n, 1))
        self.stacked.train_on_batch([self._noise(2 * n), asked], [ones, asked])

    def _classes(self, count: int) -> np.ndarray:
        return self._rng.integers(self._rules.num_classes, size=count, dtype=np.int32)

    def _noise(self, count: int) -> np.ndarray:
        return self._rng.uniform(-1, 1, (count, LATENT)).astype(np.float32)


def generator(num_classes: int) -> keras.Model:
    """[z [n, 100], label int32 [n]] -> [n, 64, 64, 1] in [-1, 1]."""
    z, label = keras.Input((LATENT,)), keras.Input((), dtype="int32")
    spot = layers.Embedding(num_classes, EMBEDDING)(label)
    spot = layers.Dense(4 * 4, kernel_initializer=_normal())(spot)
    x = layers.Dense(4 * 4 * 1024, activation="relu", kernel_initializer=_normal())(z)
    x = layers.Concatenate()(
        [layers.Reshape((4, 4, 1024))(x), layers.Reshape((4, 4, 1))(spot)]
    )
    double = {"kernel_size": 5, "strides": 2, "padding": "same"}
    for features in (512, 256, 128):
        x = layers.Conv2DTranspose(features, kernel_initializer=_normal(), **double)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    image = layers.Conv2DTranspose(
        1, activation="tanh", kernel_initializer=_normal(), **double
    )
    return keras.Model([z, label], image(x))


def discriminator(num_classes: int) -> keras.Model:
    """Image [n, 64, 64, 1] -> [probability of real [n, 1], of each class [n, k]]."""
    image = keras.Input((64, 64, 1))
    x = image
    for features, stride in ((32, 1), (64, 2), (128, 2), (256, 2), (512, 2)):
        x = layers.Conv2D(
            features, 3, strides=stride, padding="same", kernel_initializer=_normal()
        )(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Dropout(0.5)(layers.LeakyReLU(0.2)(x))
    x = layers.Flatten()(x)
    real = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model(
        image, [real, layers.Dense(num_classes, activation="softmax")(x)]
    )


def _normal() -> keras.initializers.Initializer:
    """Of each layer anew: one that is used twice gives the same numbers twice."""
    return keras.initializers.RandomNormal(stddev=0.02)


def build(rules: Rules, cores: int) -> PublicAcgan:
    """On so many threads."""
    use_threads(cores)
    return PublicAcgan(
        rules,
        networks=(generator(rules.num_classes), discriminator(rules.num_classes)),
        losses=["binary_crossentropy", "sparse_categorical_crossentropy"],
        weights=([1.0, 1.0], [1.0, 1.0]),
        adam=lambda: keras.optimizers.Adam(2e-4, 0.5),
    )
