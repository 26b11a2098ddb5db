"""A space of features in which sets of chest radiographs are compared.

Inception features know photographs of things. This small network was taught on half A
of the patients of a public set of radiographs to tell normal from pneumonia, to draw
the image again, coarsely, and to tell its exposure, all from its features: so they read
anatomy as well as disease. Images were grained and blurred, and they hardly read that:
see `texture`.
`python -m benchmarks.encoder` made the weights shipped with the package; the card
beside them says from what.
"""

import hashlib
import importlib.resources
import json
from importlib.resources.abc import Traversable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cxr_gan.metrics import stored
from cxr_gan.metrics.chunks import over_chunks
from cxr_gan.metrics.resize import resize, to_unit, unshuffle

SIZE = 64  # px; the only size the network reads
DIMENSION = 64
NAME = "cxr_encoder"  # of the .npz and .json in `shipped()`


class Encoder(nn.Module):
    """Reads features off a radiograph; positions are kept down to a grid of 4 x 4.

    Every convolution is 3 x 3 with stride 1, followed by a mean of 2 x 2: the kind that
    is fast on CPUs as well.
    """

    widths: tuple[int, ...] = (32, 64, 128)  # channels at 32, 16 and 8 px

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, 64, 64, 1] in [0, 1] -> float32 [n, 64]."""
        h = unshuffle(4 * x - 2, 2)
        for stage, width in enumerate(self.widths):
            h = nn.Conv(width, (3, 3), name=f"conv_{stage}")(h)
            h = nn.relu(nn.LayerNorm(name=f"norm_{stage}")(h))
            h = nn.avg_pool(h, (2, 2), (2, 2))
        h = nn.Conv(self.widths[-1], (3, 3), name="conv_last")(h)
        h = nn.relu(nn.LayerNorm(name="norm_last")(h))
        return nn.Dense(DIMENSION, name="features")(h.reshape(len(x), -1))


def features(images: np.ndarray) -> np.ndarray:
    """The features of images by the shipped weights: uint8 [n, s, s, 1] -> [n, 64].

    float32. Over the images the network was taught on, a feature has mean 0, is not
    correlated with the others, and has a variance of v / (v + 0.1), where v falls from
    the first to the last (see `benchmarks.encoder.decorrelated`): without that, the
    class would outweigh all else. Images are resized to 64 px: by the mean of squares
    of pixels where s is a multiple of 64, else linearly with antialiasing. The same
    image has the same features in any set, up to rounding.

    Raises:
        TypeError, ValueError: images are not uint8 [n, s, s, 1], or there are none.
        ValueError: the shipped weights are damaged.
    """
    return encode(load(), images)


def encode(params: Any, images: np.ndarray) -> np.ndarray:
    """As `features`, by given weights of an `Encoder()`."""
    return over_chunks(lambda some: _encode(params, some), images)


def load(folder: Traversable | None = None) -> Any:
    """The weights of an `Encoder()` in a folder; None for those of the package.

    Raises:
        FileNotFoundError: the folder has no weights, or no card.
        ValueError: weights and card do not belong together, or are damaged.
    """
    folder = shipped() if folder is None else folder
    data = (folder / f"{NAME}.npz").read_bytes()
    told, found = card(folder)["sha256"], hashlib.sha256(data).hexdigest()
    if told != found:
        raise ValueError(
            f"{folder / f'{NAME}.npz'}: damaged: its sha256 is {found[:16]}..., its "
            f"card says {told[:16]}...; install cxr_gan again"
        )
    like = jax.eval_shape(
        Encoder().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 1))
    )["params"]
    return stored.unpack(data, like, str(folder / f"{NAME}.npz"))


def card(folder: Traversable | None = None) -> dict[str, Any]:
    """What is known of the weights: data, licence, patients, figures, checksum."""
    folder = shipped() if folder is None else folder
    read: dict[str, Any] = json.loads((folder / f"{NAME}.json").read_text("utf-8"))
    return read


def shipped() -> Traversable:
    """The folder of the package that holds the weights and their card."""
    return importlib.resources.files("cxr_gan.metrics") / "weights"


@jax.jit
def _encode(params: Any, images: jax.Array) -> jax.Array:
    x = resize(to_unit(images), SIZE)
    encoded: Any = Encoder().apply({"params": params}, x)
    return encoded
