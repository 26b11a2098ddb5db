"""The auxiliary-classifier GAN of public notebooks on radiographs, as they run it.

64 x 64 px; G of 5 x 5 transposed convolutions, D of strided ones after one at full
resolution, with dropout, batch normalization in both; binary and class cross-entropy;
Adam; `train_on_batch` on real, on generated images and on both networks stacked, images
by `predict`. No R1, augmentation, average or term against repetition: less is asked of
it than of others.

Source: Odena et al. 2017, "Auxiliary Classifier GANs", appendix A (kernels and strides;
the widths are the notebooks').
"""

import keras
from keras import layers

from benchmarks.rivals.keras_rival import use_threads
from benchmarks.rivals.rules import Rules
from benchmarks.rivals.stacked import Stacked

LATENT = 100


def generator(num_classes: int) -> keras.Model:
    """[z [n, 100], label int32 [n]] -> [n, 64, 64, 1] in [-1, 1]."""
    z, label = keras.Input((LATENT,)), keras.Input((), dtype="int32")
    spot = layers.Dense(4 * 4)(layers.Embedding(num_classes, 50)(label))
    x = layers.Dense(4 * 4 * 1024, activation="relu")(z)
    x = layers.Concatenate()(
        [layers.Reshape((4, 4, 1024))(x), layers.Reshape((4, 4, 1))(spot)]
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
    for features, stride in ((32, 1), (64, 2), (128, 2), (256, 2), (512, 2)):
        x = layers.Conv2D(features, 3, strides=stride, padding="same")(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Dropout(0.5)(layers.LeakyReLU(0.2)(x))
    x = layers.Flatten()(x)
    real = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model(
        image, [real, layers.Dense(num_classes, activation="softmax")(x)]
    )


def build(rules: Rules, cores: int) -> Stacked:
    """On so many threads."""
    use_threads(cores)
    return Stacked(
        rules,
        networks=(generator(rules.num_classes), discriminator(rules.num_classes)),
        losses=["binary_crossentropy", "sparse_categorical_crossentropy"],
        weights=([1.0, 1.0], [1.0, 1.0]),
        adam=lambda: keras.optimizers.Adam(2e-4, 0.5),
        classes_of_fake=True,
    )
