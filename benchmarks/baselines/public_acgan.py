"""The auxiliary-classifier GAN of a public notebook on radiographs, as it is run.

64 x 64 pixels. G has transposed 5 x 5 convolutions; D has strided convolutions after
one at full resolution, with dropout. Both have batch normalization. The losses are
binary and class cross-entropy, the optimizer is Adam. `train_on_batch` trains, and
`predict` generates the images for D. There is no R1, augmentation, EMA or diversity
loss, so a step computes less than those of the other programs.

Source: github.com/giocoal/CXR-ACGAN-chest-xray-generator-covid19-pneumonia, cells of
AC-cGAN-training.ipynb that define both networks and the training step. This is a new
implementation from its description. Networks here start at 4 x 4 pixels instead of
7 x 7, for 64 instead of 112 pixels per side, and images have one channel instead of
three equal ones.
"""

import dataclasses

import keras
import numpy as np
from keras import layers

from benchmarks.baselines import Program, published
from benchmarks.baselines.keras_baseline import set_threads
from benchmarks.baselines.settings import Settings
from benchmarks.baselines.stacked import Stacked
from cxr_gan.data import Dataset
from cxr_gan.models import pixel_range

LATENT, EMBEDDING, BATCH = 100, 100, 16
SMOOTHING = 0.2  # maximum distance of D's targets from 0 and 1


class PublicAcgan(Stacked):
    """The notebook's step: D on real and generated images at once, G on twice as many.

    Labels of generated images are random.
    """

    def train_step(self, real: np.ndarray, label: np.ndarray) -> None:
        """real float32 [n, 64, 64, 1] in [-1, 1], label int32 [n]; 3n are generated."""
        n, fake_label = len(label), self._random_labels(len(label))
        target = np.concatenate([np.ones((n, 1)), np.zeros((n, 1))])
        target += SMOOTHING * self._rng.random((2 * n, 1)) * (1 - 2 * target)
        both = np.concatenate([real, self.generate(fake_label)])
        self.d.trainable = True
        self.d.train_on_batch(both, [target, np.concatenate([label, fake_label])])
        self.d.trainable = False
        fake_label, ones = self._random_labels(2 * n), np.ones((2 * n, 1))
        self.stacked.train_on_batch(
            [self._noise(2 * n), fake_label], [ones, fake_label]
        )

    def _random_labels(self, count: int) -> np.ndarray:
        classes = self._settings.num_classes
        return self._rng.integers(classes, size=count, dtype=np.int32)

    def _noise(self, count: int) -> np.ndarray:
        return self._rng.uniform(-1, 1, (count, LATENT)).astype(np.float32)


def generator(num_classes: int) -> keras.Model:
    """The network [z [n, 100], label int32 [n]] -> [n, 64, 64, 1] in [-1, 1]."""
    z, label = keras.Input((LATENT,)), keras.Input((), dtype="int32")
    plane = layers.Embedding(num_classes, EMBEDDING)(label)
    plane = layers.Dense(4 * 4, kernel_initializer=_normal())(plane)
    x = layers.Dense(4 * 4 * 1024, activation="relu", kernel_initializer=_normal())(z)
    x = layers.Concatenate()(
        [layers.Reshape((4, 4, 1024))(x), layers.Reshape((4, 4, 1))(plane)]
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
    """The network image [n, 64, 64, 1] -> [P(real) [n, 1], P(class) [n, k]]."""
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
    classes = layers.Dense(num_classes, activation="softmax")(x)
    return keras.Model(image, [real, classes])


def _normal() -> keras.initializers.Initializer:
    """A new initializer for each layer: one instance returns the same values twice."""
    return keras.initializers.RandomNormal(stddev=0.02)


def build(settings: Settings, cores: int) -> PublicAcgan:
    """The program on one thread per core."""
    set_threads(cores)
    classes = settings.num_classes
    return PublicAcgan(
        settings,
        networks=(generator(classes), discriminator(classes)),
        losses=["binary_crossentropy", "sparse_categorical_crossentropy"],
        weights=([1.0, 1.0], [1.0, 1.0]),
        adam=lambda: keras.optimizers.Adam(2e-4, 0.5),
    )


def program(dataset: Dataset, seed: int) -> Program:
    """The baseline for `benchmarks.train_baseline`; the batches of the notebook differ.

    Its batches are not balanced.
    """
    settings = published.settings_of(published.benchmark_config(BATCH))
    classes = len(dataset.class_names)
    acgan = build(dataclasses.replace(settings, num_classes=classes), cores=1)

    def train_step(image: np.ndarray, label: np.ndarray) -> None:
        acgan.train_step(image.astype(np.float32) / 127.5 - 1, label)

    def generate(labels: np.ndarray) -> np.ndarray:
        chunks = np.array_split(labels, max(1, len(labels) // 100))
        images = np.concatenate([acgan.generate(chunk) for chunk in chunks])
        return pixel_range.to_uint8(images[..., 0] * 0.5 + 0.5)

    return Program(generate, train_step, BATCH)
