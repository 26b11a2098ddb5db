"""The networks of cxr_gan in Keras, on TensorFlow. Images are [n, s, s, 1]."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.baselines.settings import (
    HEAD_CHANNELS,
    STEM_CHANNELS,
    Settings,
    emphasis,
    noise_patterns,
)

Tensor = keras.KerasTensor


def adaptive_norm(x: Tensor, condition: Tensor, name: str) -> Tensor:
    """LayerNorm over an example; scale and bias are linear in a condition."""
    gains = layers.Dense(2 * x.shape[-1], name=f"{name}_gains")(condition)
    gains = layers.Reshape((1, 1, -1))(gains)
    scale, bias = keras.ops.split(gains, 2, axis=-1)
    norm = layers.GroupNormalization(1, epsilon=1e-5, center=False, scale=False)
    return norm(x) * (1 + scale) + bias


def conv(x: Tensor, features: int, name: str, size: int = 3, **options: Any) -> Tensor:
    """Convolution with zero padding to the input's size."""
    return layers.Conv2D(features, size, padding="same", name=name, **options)(x)


def upsample(x: Tensor) -> Tensor:
    """[n, h, w, c] -> [n, 2h, 2w, c], bilinear."""
    return layers.UpSampling2D(interpolation="bilinear")(x)


def up_block(x: Tensor, condition: Tensor, features: int, name: str) -> Tensor:
    """[n, h, w, c] -> [n, 2h, 2w, features]: residual block."""
    skip = conv(x, features, f"{name}_skip", 1, use_bias=False)
    h = layers.ReLU()(adaptive_norm(x, condition, f"{name}_norm_in"))
    h = upsample(conv(h, features, f"{name}_conv_in"))
    h = layers.ReLU()(adaptive_norm(h, condition, f"{name}_norm_out"))
    return upsample(skip) + conv(h, features, f"{name}_conv_out")


def filter_both_axes(x: Tensor, matrix: np.ndarray) -> Tensor:
    """Multiplies height and width of x [n, s, s, 1] by a matrix [s, s]."""
    weights = tf.constant(matrix, tf.float32)

    def multiply(x: tf.Tensor) -> tf.Tensor:
        rows = tf.matmul(weights, x[..., 0])
        return tf.matmul(rows, weights, transpose_b=True)[..., None]

    return layers.Lambda(multiply)(x)


class ModulateByNoise(layers.Layer):
    """x [n, s, s, c], z [n, latent] -> x times 1 plus noise with a gain per channel."""

    def build(self, shapes: list[tuple[int, ...]]) -> None:
        """Creates the gains and the patterns of the noise."""
        (_, size, _, channels), (_, latent_size) = shapes
        rows, columns = noise_patterns(latent_size, size)
        self.rows, self.columns = tf.constant(rows.T), tf.constant(columns)
        self.gain = self.add_weight(name="gain", shape=(channels,), initializer="zeros")

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Modulates x."""
        x, z = inputs
        noise = tf.matmul(z[:, None] * self.rows, self.columns)
        return x * (1 + self.gain * noise[..., None])


def head(x: Tensor, condition: Tensor, z: Tensor, resolution: int) -> Tensor:
    """Block at full resolution and a convolution to an image."""
    x = up_block(x, condition, HEAD_CHANNELS, "head_block")
    x = layers.ReLU()(adaptive_norm(x, condition, "head_norm"))
    x = ModulateByNoise(name="head_noise")([x, z])
    x = conv(x, 1, "head_image", kernel_initializer="zeros")
    return filter_both_axes(x, np.linalg.inv(emphasis(resolution)))


def generator(settings: Settings) -> keras.Model:
    """The network [z [n, latent], label int32 [n]] -> [n, s, s, 1] in [-1, 1]."""
    z = keras.Input((settings.latent_size,))
    label = keras.Input((), dtype="int32")
    embed = layers.Embedding(
        settings.num_classes, settings.class_embedding_dim, name="embed"
    )
    condition = layers.Concatenate()([z, embed(label)])
    x = layers.Dense(16 * settings.channels_g[0], name="stem")(condition)
    x = layers.Reshape((4, 4, settings.channels_g[0]))(x)
    for i, features in enumerate(settings.channels_g[1:]):
        x = up_block(x, condition, features, f"block_{8 * 2**i}")
    x = head(x, condition, z, settings.resolution)
    return keras.Model([z, label], layers.Activation("tanh")(x))


def down_block(x: Tensor, features: int, norm: bool, name: str) -> Tensor:
    """[n, h, w, c] -> [n, h / 2, w / 2, features]: residual block."""

    def normalize(x: Tensor, part: str) -> Tensor:
        if not norm:
            return x
        return layers.GroupNormalization(1, epsilon=1e-5, name=f"{name}_{part}")(x)

    downsample = layers.AveragePooling2D(2)
    leaky = layers.LeakyReLU(0.2)
    skip = conv(downsample(x), features, f"{name}_skip", 1, use_bias=False)
    h = conv(leaky(normalize(x, "norm_in")), x.shape[-1], f"{name}_conv_in")
    h = downsample(leaky(normalize(h, "norm_out")))
    return (skip + conv(h, features, f"{name}_conv_out")) * 0.5**0.5


def append_group_deviation(x: Tensor, settings: Settings) -> Tensor:
    """[n, h, w, c] -> [n, h, w, c + 1], as cxr_gan.models.layers.group_deviation."""
    h, w, c = x.shape[1:]
    k, per_class = settings.num_classes, settings.group_size // settings.num_classes

    def append(x: tf.Tensor) -> tf.Tensor:
        groups = tf.reshape(x, [-1, per_class, k, h, w, c])
        variance = tf.math.reduce_variance(groups, 1, keepdims=True)
        mean = tf.reduce_mean(tf.sqrt(variance + 1e-8), [3, 4, 5])
        deviation = tf.repeat(tf.math.log(mean + 1e-3), per_class, 1)
        channel = tf.reshape(deviation, [-1, 1, 1, 1]) * tf.ones([1, h, w, 1])
        return tf.concat([x, channel], -1)

    return layers.Lambda(append, output_shape=(h, w, c + 1))(x)


def discriminator(settings: Settings) -> keras.Model:
    """The network image [n, s, s, 1] in [-1, 1] -> [score [n, 1], logits [n, k]]."""
    image = keras.Input((settings.resolution, settings.resolution, 1))
    x = filter_both_axes(image, emphasis(settings.resolution))
    x = conv(x, STEM_CHANNELS, "stem_image")
    x = down_block(x, settings.channels_d[0], False, "stem_block")
    for i, features in enumerate(settings.channels_d[1:]):
        side = settings.resolution // 2 ** (i + 1)
        x = down_block(x, features, i > 0, f"block_{side}")
    x = layers.GroupNormalization(1, epsilon=1e-5, name="norm")(x)
    x = append_group_deviation(x, settings)
    x = conv(x, settings.channels_d[-1], "mix")
    features = layers.GlobalAveragePooling2D()(layers.LeakyReLU(0.2)(x))
    # Both names are those of the Flax layers.
    score = layers.Dense(1, name="realness")(features)
    class_logits = layers.Dense(settings.num_classes, name="pathology")(features)
    return keras.Model(image, [score, class_logits])
