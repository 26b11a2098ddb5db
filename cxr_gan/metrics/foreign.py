"""A space of features by a network of somebody else: an ONNX file and a card beside it.

The card has the file's stem, `net.json` beside `net.onnx`, and says what the network is
fed: images of `size` px, in [0, 1], repeated over `channels`, minus `mean`, over `std`:

    {"size": 224, "channels": 3, "mean": [0.485, 0.456, 0.406],
     "std": [0.229, 0.224, 0.225], "layout": "NCHW"}

It may name an `input` and an `output`, where the network has more than one.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cxr_gan.metrics.chunks import CHUNK, over_chunks
from cxr_gan.metrics.resize import resize, to_unit

KEYS = ("size", "channels", "mean", "std", "layout")
OPTIONAL = ("input", "output")
LAYOUTS = ("NCHW", "NHWC")


@dataclasses.dataclass(frozen=True)
class Card:
    """What a network is fed, and what is read of it."""

    size: int  # px
    mean: np.ndarray  # float32 [channels], of values in [0, 1]
    std: np.ndarray  # float32 [channels]
    layout: str  # a key of LAYOUTS
    input: str | None  # None where the network has only one
    output: str | None


def extractor(file: str | os.PathLike[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Opens an ONNX file: a function of uint8 [n, s, s, 1] -> float32 [n, d].

    Raises:
        ImportError: onnxruntime is not installed; says what to type.
        FileNotFoundError: there is no such file, or no card beside it.
        ValueError: the card lacks a key or does not fit the network, or the file
            cannot be read. The function itself raises it if the network's output is
            not [n, d] or not finite.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; give onnx:FILE, such as onnx:net.onnx"
        )
    card = read_card(path.with_suffix(".json"))
    session = _open(path)
    fed = _chosen(card.input, session.get_inputs(), "input", path)
    told = _chosen(card.output, session.get_outputs(), "output", path)
    _check_input(fed, card, path)
    batch = fed.shape[0] if isinstance(fed.shape[0], int) else CHUNK

    @jax.jit
    def prepare(images: jax.Array) -> jax.Array:
        x = (resize(to_unit(images), card.size) - card.mean) / card.std
        return x.transpose(0, 3, 1, 2) if card.layout == "NCHW" else x

    def run(images: np.ndarray) -> np.ndarray:
        (given,) = session.run([told.name], {fed.name: np.asarray(prepare(images))})
        return _checked(np.asarray(given), len(images), told.name, path)

    return lambda images: over_chunks(run, images, batch)


def read_card(path: Path) -> Card:
    """Reads and checks the JSON beside a network.

    Raises:
        FileNotFoundError: it is not there; shows what to write.
        ValueError: it is no JSON, lacks a key or has one too many, or a value is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: an ONNX file needs this card beside it, such as "
            '{"size": 224, "channels": 1, "mean": [0.5], "std": [0.25], '
            '"layout": "NCHW"}'
        )
    try:
        read = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error})") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path}: must be an object with {', '.join(KEYS)}")
    missing = [key for key in KEYS if key not in read]
    if missing:
        raise ValueError(f"{path}: {missing[0]!r} is missing; needs {', '.join(KEYS)}")
    unknown = sorted(set(read) - {*KEYS, *OPTIONAL})
    if unknown:
        raise ValueError(
            f"{path}: {unknown[0]!r} is not known; keys are {', '.join(KEYS)}, and "
            f"perhaps {', '.join(OPTIONAL)}"
        )
    _check_values(read, path)
    mean, std = (np.asarray(read[key], np.float32) for key in ("mean", "std"))
    return Card(
        read["size"], mean, std, read["layout"], read.get("input"), read.get("output")
    )


def _check_values(read: dict[str, Any], path: Path) -> None:
    for key in ("size", "channels"):
        value = read[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{path}: {key} is {value!r}; must be an int from 1")
    for key in ("mean", "std"):
        try:
            array = np.asarray(read[key], np.float32)
        except (TypeError, ValueError):
            array = np.zeros(0, np.float32)
        if array.shape != (read["channels"],) or not np.isfinite(array).all():
            raise ValueError(
                f"{path}: {key} is {read[key]!r}; must be a list of {read['channels']} "
                "numbers, one a channel, for images in [0, 1]"
            )
        if key == "std" and array.min() <= 0:
            raise ValueError(f"{path}: std is {read[key]!r}; must be above 0")
    if read["layout"] not in LAYOUTS:
        raise ValueError(
            f"{path}: layout is {read['layout']!r}; must be {' or '.join(LAYOUTS)}"
        )


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "onnx: needs onnxruntime; type: pip install 'cxr-gan[onnx]'"
        ) from error
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no base of their own
        raise ValueError(f"{path}: onnxruntime cannot read it ({error})") from error


def _chosen(name: str | None, there: list[Any], what: str, path: Path) -> Any:
    """The input or output of that name, or the only one."""
    names = [one.name for one in there]
    if name is None and len(there) == 1:
        return there[0]
    if name in names:
        return there[names.index(name)]
    raise ValueError(
        f"{path}: {what} is {name!r} in the card; the network has {', '.join(names)}"
    )


def _check_input(fed: Any, card: Card, path: Path) -> None:
    """Compares what the card says with what the network declares, where it does."""
    side, channels = card.size, len(card.mean)
    shape = (channels, side, side) if card.layout == "NCHW" else (side, side, channels)
    declared = fed.shape
    fits = len(declared) == 4 and all(
        not isinstance(has, int) or has == wants
        for has, wants in zip(declared[1:], shape, strict=True)
    )
    if not fits or fed.type != "tensor(float)":
        raise ValueError(
            f"{path}: input {fed.name!r} is {fed.type} {declared}; the card makes it "
            f"tensor(float) {['n', *shape]}"
        )


def _checked(given: np.ndarray, n: int, name: str, path: Path) -> np.ndarray:
    if given.ndim != 2 or len(given) != n:
        raise ValueError(
            f"{path}: output {name!r} is {list(given.shape)} for {n} images; must be "
            f"[{n}, d]: name a pooled layer as output in the card"
        )
    if not np.isfinite(given).all():
        raise ValueError(f"{path}: output {name!r} is not finite; look at mean and std")
    return given.astype(np.float32)
