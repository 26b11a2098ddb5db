"""Registry of the feature spaces in which sets of images are compared."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxr_gan.evaluation.metrics import cxr_encoder, onnx_encoder, texture_features


class FeatureSpace(NamedTuple):
    """A named function from images to feature vectors."""

    name: str  # the specification it was opened with, such as "onnx:net.onnx"
    dimension: int | None  # None where it is unknown until images are encoded
    extract: Callable[[np.ndarray], np.ndarray]  # uint8 [n, s, s, 1] -> float32 [n, d]


def open_space(spec: str) -> FeatureSpace:
    """Opens the feature space that `spec` names: `cxr`, `texture` or `onnx:FILE`.

    Raises:
        ValueError: `spec` is not a feature space; the message lists the accepted ones.
        ImportError, FileNotFoundError, ValueError: an ONNX file cannot be used; see
            `onnx_encoder.extractor`.
    """
    kind, colon, file = spec.partition(":")
    takes_file = kind in FILE_SPACES
    if kind not in SPACES or bool(colon) != takes_file or bool(file) != takes_file:
        accepted = [f"{kind}:FILE" if kind in FILE_SPACES else kind for kind in SPACES]
        raise ValueError(
            f"{spec!r} is not a feature space; accepted are {', '.join(accepted)}"
        )
    return SPACES[kind](spec)


# Kind -> function that opens a feature space from its specification. A specification is
# the kind alone, or KIND:FILE for the kinds in FILE_SPACES. Add a feature space here.
SPACES: dict[str, Callable[[str], FeatureSpace]] = {
    # Trained on radiographs: anatomy, disease, exposure.
    "cxr": lambda spec: FeatureSpace(spec, cxr_encoder.DIMENSION, cxr_encoder.features),
    # Fixed filters: noise, sharpness, patterns.
    "texture": lambda spec: FeatureSpace(
        spec, texture_features.DIMENSION, texture_features.features
    ),
    # A network of your own, as an ONNX file.
    "onnx": lambda spec: FeatureSpace(
        spec, None, onnx_encoder.extractor(spec.partition(":")[2])
    ),
}
FILE_SPACES = {"onnx"}
