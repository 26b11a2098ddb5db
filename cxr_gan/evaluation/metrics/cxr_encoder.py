"""Feature space of a small encoder trained on chest radiographs.

Inception features describe photographs of objects. This encoder was trained on half A
of the patients of a public set of radiographs. Its training targets, all predicted from
the features, are the class (normal or pneumonia), a coarse version of the image and its
exposure, so the features describe anatomy as well as disease. Training images were
blurred and noise was added, so the features are almost insensitive to both; use
`texture_features` for those.

`python -m benchmarks.encoder` made the weights that the package contains; the model
card beside them lists the data.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cxr_gan.evaluation.metrics.batching import map_batches
from cxr_gan.evaluation.metrics.resize import resize, to_unit
from cxr_gan.storage import weights_file

SIZE = 64  # px; the only input size
DIMENSION = 64
NAME = "cxr_encoder"  # stem of the .npz and .json files
FOLDER = Path(__file__).with_name("weights")  # of these files, in the package


def pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
    """x [n, h, w, c] -> [n, h / factor, w / factor, c factor^2].

    Each square of factor x factor pixels becomes one pixel with their channels. Before
    a first convolution it saves time: that layer has few channels and most pixels.

    Source: Shi et al. 2016, "Efficient Sub-Pixel Convolutional Neural Network", eq. 4,
    for its inverse.
    """
    n, height, width, c = x.shape
    h, w = height // factor, width // factor
    x = x.reshape(n, h, factor, w, factor, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h, w, factor**2 * c)


def convolutions(h: jax.Array, widths: Sequence[int]) -> jax.Array:
    """Layers of the calling module: [n, s, s, c] -> [n, s/2^k, s/2^k, widths[-1]].

    Each of the k = len(widths) stages is a convolution and 2 x 2 mean pooling; a last
    convolution follows. Convolutions are 3 x 3 with stride 1 and followed by layer
    normalisation and ReLU. Such layers are fast on CPUs as well.
    """

    def convolve(h: jax.Array, width: int, name: str) -> jax.Array:
        h = nn.Conv(width, (3, 3), name=f"conv_{name}")(h)
        return nn.relu(nn.LayerNorm(name=f"norm_{name}")(h))

    for stage, width in enumerate(widths):
        h = nn.avg_pool(convolve(h, width, str(stage)), (2, 2), (2, 2))
    return convolve(h, widths[-1], "last")


class Encoder(nn.Module):
    """Convolutional encoder; features keep positions, on a grid of 4 x 4."""

    widths: tuple[int, ...] = (32, 64, 128)  # channels at 32, 16 and 8 px

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, 64, 64, 1] in [0, 1] -> float32 [n, 64]."""
        h = convolutions(pixel_unshuffle(4 * x - 2, 2), self.widths)
        return nn.Dense(DIMENSION, name="features")(h.reshape(len(x), -1))


def features(images: np.ndarray) -> np.ndarray:
    """Features by the shipped weights: uint8 [n, s, s, 1] -> float32 [n, 64].

    Over the training images, each feature has mean 0, is uncorrelated with the others,
    and has variance v / (v + 0.1), where v decreases from the first feature to the last
    (see `benchmarks.encoder.decorrelated`). Without this transformation, the class
    would dominate all distances. Images are resized to 64 px as by `resize.resize`. The
    features of an image do not depend on the other images, up to rounding.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], or n is 0.
        ValueError: the shipped weights are damaged.
    """
    return encode(load(), images)


def encode(params: Any, images: np.ndarray) -> np.ndarray:
    """As `features`, with the given params of an `Encoder()`."""
    return map_batches(lambda batch: _encode(params, batch), images)


def load(folder: Path = FOLDER) -> Any:
    """Params of an `Encoder()` from a folder.

    Raises:
        FileNotFoundError: the folder has no weights or no model card.
        ValueError: the weights are damaged, or do not match the model card.
    """
    path = folder / f"{NAME}.npz"
    data = path.read_bytes()
    expected, actual = card(folder)["sha256"], hashlib.sha256(data).hexdigest()
    if expected != actual:
        raise ValueError(
            f"{path}: damaged: its sha256 is {actual[:16]}..., the model card has "
            f"{expected[:16]}...; install cxr_gan again"
        )
    shapes = jax.eval_shape(
        Encoder().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 1))
    )["params"]
    return weights_file.unpack(data, shapes, str(path))


def card(folder: Path = FOLDER) -> dict[str, Any]:
    """The model card of the weights: data, licence, patients, scores, checksum."""
    contents: dict[str, Any] = json.loads((folder / f"{NAME}.json").read_text("utf-8"))
    return contents


@jax.jit
def _encode(params: Any, images: jax.Array) -> jax.Array:
    x = resize(to_unit(images), SIZE)
    encoded: Any = Encoder().apply({"params": params}, x)
    return encoded
