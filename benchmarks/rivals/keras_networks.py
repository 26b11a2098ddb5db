"""The networks of cxr_gan in Keras, on TensorFlow. Images are [n, s, s, 1]."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.rivals.rules import BLUR, DAMPED, Rules, raised

Tensor = keras.KerasTensor


def adaptive(x: Tensor, condition: Tensor, name: str) -> Tensor:
    """LayerNorm of a whole example, its gains read off a condition."""
    gains = layers.Dense(2 * x.shape[-1], name=f"{name}_gains")(condition)
    gains = layers.Reshape((1, 1, -1))(gains)
    scale, bias = keras.ops.split(gains, 2, axis=-1)
    plain = layers.GroupNormalization(1, epsilon=1e-5, center=False, scale=False)
    return plain(x) * (1 + scale) + bias


def conv(
    x: Tensor, features: int, name: str, size: int = 3, bias: bool = True
) -> Tensor:
    """As large as its input."""
    return layers.Conv2D(features, size, padding="same", use_bias=bias, name=name)(x)


def upsample(x: Tensor) -> Tensor:
    """[n, h, w, c] -> [n, 2h, 2w, c]: bilinear."""
    return layers.UpSampling2D(interpolation="bilinear")(x)


def up_block(x: Tensor, condition: Tensor, features: int, name: str) -> Tensor:
    """Doubles height and width."""
    skip = conv(x, features, f"{name}_skip", 1, bias=False)
    h = layers.ReLU()(adaptive(x, condition, f"{name}_norm_in"))
    h = upsample(conv(h, features, f"{name}_conv_in"))
    h = layers.ReLU()(adaptive(h, condition, f"{name}_norm_out"))
    return upsample(skip) + conv(h, features, f"{name}_conv_out")


class Filter(layers.Layer):
    """[n, s, s, 1] -> the same: by a fixed kernel; the border repeats itself."""

    def __init__(self, kernel: np.ndarray):
        super().__init__()
        self.kernel = np.float32(kernel)[:, :, None, None]

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """The same shape."""
        for axis in (1, 2):
            first, last = (tf.gather(x, [i], axis=axis) for i in (0, x.shape[axis] - 1))
            reach = len(self.kernel) // 2
            x = tf.concat([first] * reach + [x] + [last] * reach, axis)
        return tf.nn.conv2d(x, tf.constant(self.kernel), 1, "VALID")


class Shuffle(layers.Layer):
    """[n, h, w, 4] -> [n, 2h, 2w, 1]."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Four channels become four pixels."""
        return tf.nn.depth_to_space(x, 2)


class Unshuffle(layers.Layer):
    """[n, 2h, 2w, 1] -> [n, h, w, 4]."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Four pixels become four channels."""
        return tf.nn.space_to_depth(x, 2)


class Gain(layers.Layer):
    """A factor that is learnt, from 0 on."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Of any shape."""
        self.gain = self.add_weight(shape=(1,), initializer="zeros", name="gain")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """x times it."""
        return self.gain * x


def head(x: Tensor) -> Tensor:
    """A smooth reading of the features, and their fine detail, added."""
    smooth = Filter(BLUR)(Shuffle()(conv(x, 4, "head_smooth")))
    fine = layers.LeakyReLU(0.2)(conv(x, 16, "head_fine"))
    fine = Filter(DAMPED)(Shuffle()(conv(fine, 4, "head_detail")))
    return smooth + Gain(name="head")(fine)


def generator(rules: Rules) -> keras.Model:
    """[z [n, latent], label int32 [n]] -> [n, s, s, 1] in [-1, 1]."""
    z = keras.Input((rules.latent_size,))
    label = keras.Input((), dtype="int32")
    embed = layers.Embedding(rules.num_classes, rules.embedding, name="pathology")
    condition = layers.Concatenate()([z, embed(label)])
    x = layers.Dense(16 * rules.widths_g[0], name="stem")(condition)
    x = layers.Reshape((4, 4, rules.widths_g[0]))(x)
    for i, features in enumerate(rules.widths_g[1:]):
        x = up_block(x, condition, features, f"block{i}")
    x = head(layers.ReLU()(adaptive(x, condition, "norm")))
    return keras.Model([z, label], layers.Activation("tanh")(x))


def down_block(x: Tensor, features: int, norm: bool, name: str) -> Tensor:
    """Halves height and width."""

    def normed(x: Tensor, part: str) -> Tensor:
        if not norm:
            return x
        return layers.GroupNormalization(1, epsilon=1e-5, name=f"{name}_{part}")(x)

    half = layers.AveragePooling2D(2)
    leaky = layers.LeakyReLU(0.2)
    skip = conv(half(x), features, f"{name}_skip", 1, bias=False)
    h = conv(leaky(normed(x, "norm_in")), x.shape[-1], f"{name}_conv_in")
    h = half(leaky(normed(h, "norm_out")))
    return (skip + conv(h, features, f"{name}_conv_out")) * 0.5**0.5


class Deviation(layers.Layer):
    """[n, h, w, c] -> [n, h, w, c + 1]: how much class-mates differ."""

    def __init__(self, group: int, num_classes: int):
        super().__init__()
        self.group, self.num_classes = group, num_classes

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """As cxr_gan.models.layers.group_deviation."""
        h, w, c = x.shape[1:]
        k, members = self.num_classes, self.group // self.num_classes
        mates = tf.reshape(x, [-1, members, k, h, w, c])
        variance = tf.math.reduce_variance(mates, 1, keepdims=True)
        mean = tf.reduce_mean(tf.sqrt(variance + 1e-8), [3, 4, 5])
        each = tf.repeat(tf.math.log(mean + 1e-3), members, 1)
        channel = tf.reshape(each, [-1, 1, 1, 1]) * tf.ones([1, h, w, 1])
        return tf.concat([x, channel], -1)


def discriminator(rules: Rules) -> keras.Model:
    """Image [n, s, s, 1] in [-1, 1] -> [realness [n, 1], logits [n, k]]."""
    image = keras.Input((rules.resolution, rules.resolution, 1))
    seen = Filter(raised(rules.resolution))(image)
    x = conv(Unshuffle()(seen), rules.widths_d[0], "stem")
    for i, features in enumerate(rules.widths_d[1:]):
        x = down_block(x, features, i > 0, f"block{i}")
    x = layers.GroupNormalization(1, epsilon=1e-5, name="norm")(x)
    x = conv(Deviation(rules.group, rules.num_classes)(x), rules.widths_d[-1], "mix")
    features = layers.GlobalAveragePooling2D()(layers.LeakyReLU(0.2)(x))
    realness = layers.Dense(1, name="realness")(features)
    pathology = layers.Dense(rules.num_classes, name="pathology")(features)
    return keras.Model(image, [realness, pathology])
