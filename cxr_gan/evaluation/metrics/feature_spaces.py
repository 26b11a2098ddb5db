"""Registry of the feature spaces in which sets of images are compared."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxr_gan.evaluation.metrics import cxr_encoder, onnx_encoder, texture_features
from cxr_gan.storage import files


class FeatureSpace(NamedTuple):
    """A named function from images to feature vectors."""

    name: str  # such as "cxr" or, of a file in any folder, "onnx:net.onnx"
    extract: Callable[[np.ndarray], np.ndarray]  # uint8 [n, s, s, 1] -> float32 [n, d]


def open_space(spec: str) -> FeatureSpace:
    """Opens the feature space that `spec` names: `cxr`, `texture` or `onnx:FILE`.

    Raises:
        ValueError: `spec` is not a feature space; the message lists the accepted ones.
        ImportError, FileNotFoundError, ValueError: an ONNX file cannot be used; see
            `onnx_encoder.extractor`.
    """
    kind, _, file = spec.partition(":")
    if spec in SPACES:
        return FeatureSpace(spec, SPACES[spec])
    if kind in FILE_SPACES and file:
        name = f"{kind}:{files.last_name(file)}"
        return FeatureSpace(name, FILE_SPACES[kind](file))
    accepted = [*SPACES, *(f"{kind}:FILE" for kind in FILE_SPACES)]
    raise ValueError(
        f"{spec!r} is not a feature space; accepted are {', '.join(accepted)}"
    )


# Name -> uint8 [n, s, s, 1] -> float32 [n, d]. To add a feature space, add one entry.
SPACES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cxr": cxr_encoder.features,  # trained on radiographs: anatomy, disease, exposure
    "texture": texture_features.features,  # fixed filters: noise, sharpness, patterns
}
# Name of KIND:FILE -> function that opens the file as such a function.
FILE_SPACES = {"onnx": onnx_encoder.extractor}
