"""The spaces in which sets of images are compared, by name."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxr_gan.metrics import encoder, foreign, texture


class FeatureSpace(NamedTuple):
    """From images to points; a new set's distance to another is taken there."""

    name: str  # as it was asked for
    dimension: int | None  # None where it is not known until images went through
    extract: Callable[[np.ndarray], np.ndarray]  # uint8 [n, s, s, 1] -> float32 [n, d]


def space(spec: str) -> FeatureSpace:
    """The space a string names: `cxr`, `texture` or `onnx:FILE`.

    Raises:
        ValueError: it names none; lists what is accepted. Or a file is not as it should
            be (see `foreign.extractor`, which raises more).
    """
    kind, colon, location = spec.partition(":")
    located = kind in LOCATED
    if kind not in SPACES or bool(colon) != located or bool(location) != located:
        accepted = [f"{kind}:FILE" if kind in LOCATED else kind for kind in SPACES]
        raise ValueError(
            f"{spec!r} is no space of features; accepted are {', '.join(accepted)}"
        )
    return SPACES[kind](spec)


def _cxr(spec: str) -> FeatureSpace:
    return FeatureSpace(spec, encoder.DIMENSION, encoder.features)


def _texture(spec: str) -> FeatureSpace:
    return FeatureSpace(spec, texture.DIMENSION, texture.features)


def _onnx(spec: str) -> FeatureSpace:
    return FeatureSpace(spec, None, foreign.extractor(spec.partition(":")[2]))


# Kind -> function that opens the space a spec names. A spec is the kind alone, or, for
# those of LOCATED, KIND:FILE. To add a space, add it here.
SPACES: dict[str, Callable[[str], FeatureSpace]] = {
    # Learnt on radiographs: anatomy, disease, exposure.
    "cxr": _cxr,
    # Fixed filters: grain, sharpness, patterns.
    "texture": _texture,
    # A network of somebody else.
    "onnx": _onnx,
}
LOCATED = {"onnx"}
