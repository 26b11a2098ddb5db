"""Feature space of any network in an ONNX file, with a JSON configuration beside it.

The configuration has the stem of the network, `net.json` for `net.onnx`, and describes
the network's input: images in [0, 1] are resized to `size` px, repeated over
`channels`, `mean` is subtracted, and the result is divided by `std`:

    {"size": 224, "channels": 3, "mean": [0.485, 0.456, 0.406],
     "std": [0.229, 0.224, 0.225], "layout": "NCHW"}

It also names the `input` or `output` if the network has more than one.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cxr_gan.evaluation.metrics.batching import BATCH, map_batches
from cxr_gan.evaluation.metrics.resize import resize, to_unit
from cxr_gan.storage import files

KEYS = ("size", "channels", "mean", "std", "layout")
OPTIONAL = ("input", "output")
LAYOUTS = ("NCHW", "NHWC")


@dataclasses.dataclass(frozen=True)
class OnnxConfig:
    """Preprocessing of a network's input, and the names of its input and output."""

    size: int  # px
    channels: int
    mean: list[float]  # of each channel, for values in [0, 1]
    std: list[float]  # of each channel
    layout: str  # one of LAYOUTS
    input: str | None = None  # None where the network has only one
    output: str | None = None  # None where the network has only one


def extractor(file: str | os.PathLike[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Opens an ONNX file as a function of uint8 [n, s, s, 1] -> float32 [n, d].

    Raises:
        ImportError: onnxruntime is not installed; the message says what to type.
        FileNotFoundError: the file or its configuration does not exist.
        ValueError: the configuration is invalid or does not match the network, or the
            file cannot be read. The returned function raises it if the network's output
            is not [n, d] or not finite.
    """
    path = files.expand_user(file, "onnx")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; give onnx:FILE, such as onnx:net.onnx"
        )
    config = read_config(path.with_suffix(".json"))
    session = _open_session(path)
    network_input = _select(config.input, session.get_inputs(), "input", path)
    output_name = _select(config.output, session.get_outputs(), "output", path).name
    _check_input(network_input, config, path)
    declared_batch = network_input.shape[0]
    batch_size = declared_batch if isinstance(declared_batch, int) else BATCH

    mean, std = (np.asarray(x, np.float32) for x in (config.mean, config.std))

    @jax.jit
    def preprocess(images: jax.Array) -> jax.Array:
        x = (resize(to_unit(images), config.size) - mean) / std
        return x.transpose(0, 3, 1, 2) if config.layout == "NCHW" else x

    def run(images: np.ndarray) -> np.ndarray:
        feed = {network_input.name: np.asarray(preprocess(images))}
        (output,) = session.run([output_name], feed)
        return _check_output(np.asarray(output), len(images), output_name, path)

    return lambda images: map_batches(run, images, batch_size)


def read_config(path: Path) -> OnnxConfig:
    """Reads and checks the JSON configuration beside a network.

    Raises:
        FileNotFoundError: it does not exist; the message shows an example.
        ValueError: it is not JSON, lacks a key, has an unknown key, or a value is
            invalid.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; an ONNX network needs this configuration beside "
            'it, such as {"size": 224, "channels": 1, "mean": [0.5], "std": [0.25], '
            '"layout": "NCHW"}'
        )
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); correct it") from error
    if fault := _fault(values):
        raise ValueError(f"{path}: {fault}")
    return OnnxConfig(**values)


def _fault(values: Any) -> str | None:
    """What is wrong with the content of a configuration; None if nothing is."""
    if not isinstance(values, dict):
        return f"must be a JSON object with {', '.join(KEYS)}"
    for key in KEYS:
        if key not in values:
            return f"key {key!r} is missing; required keys are {', '.join(KEYS)}"
    for key in sorted(values.keys() - {*KEYS, *OPTIONAL}):
        return (
            f"unknown key {key!r}; keys are {', '.join(KEYS)}, and optionally "
            f"{', '.join(OPTIONAL)}"
        )
    for key in ("size", "channels"):
        if type(values[key]) is not int or values[key] < 1:
            return f"{key} is {values[key]!r}; must be an integer >= 1"
    for key in ("mean", "std"):
        numbers = values[key] if isinstance(values[key], list) else []
        are_numbers = all(isinstance(number, int | float) for number in numbers)
        if (
            len(numbers) != values["channels"]
            or not are_numbers
            or not np.isfinite(np.asarray(numbers, np.float32)).all()
        ):
            return (
                f"{key} is {values[key]!r}; must be a list of {values['channels']} "
                "finite numbers, one per channel, for images in [0, 1]"
            )
    if np.float32(min(values["std"])) <= 0:
        return f"std is {values['std']!r}; must be above 0"
    if values["layout"] not in LAYOUTS:
        return f"layout is {values['layout']!r}; must be {' or '.join(LAYOUTS)}"
    return None


def _open_session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "onnx: needs onnxruntime; type: pip install onnxruntime"
        ) from error
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base class
        raise ValueError(f"{path}: onnxruntime cannot read it ({error})") from error


def _select(name: str | None, nodes: list[Any], kind: str, path: Path) -> Any:
    """The input or output of that name, or the only one if `name` is None."""
    names = [node.name for node in nodes]
    if name is None and len(nodes) == 1:
        return nodes[0]
    if name in names:
        return nodes[names.index(name)]
    raise ValueError(
        f"{path}: {kind} is {name!r} in {path.stem}.json; set it to one of the "
        f"network's: {', '.join(names)}"
    )


def _check_input(network_input: Any, config: OnnxConfig, path: Path) -> None:
    """Compares the configuration with the shape that the network declares, if any."""
    size, channels = config.size, config.channels
    shape = (size, size, channels)
    if config.layout == "NCHW":
        shape = (channels, size, size)
    declared = network_input.shape
    fits = len(declared) == 4 and all(
        not isinstance(actual, int) or actual == expected
        for actual, expected in zip(declared[1:], shape, strict=True)
    )
    if not fits or network_input.type != "tensor(float)":
        raise ValueError(
            f"{path}: input {network_input.name!r} is {network_input.type} {declared}, "
            f"but {path.stem}.json describes tensor(float) {['n', *shape]}; correct "
            "its size, channels or layout"
        )


def _check_output(output: np.ndarray, n: int, name: str, path: Path) -> np.ndarray:
    """The output as float32 [n, d], after checks."""
    if output.ndim != 2 or len(output) != n:
        raise ValueError(
            f"{path}: output {name!r} has shape {list(output.shape)} for {n} images; "
            f"must be [{n}, d]: name a pooled layer as output in {path.stem}.json"
        )
    if not np.isfinite(output).all():
        raise ValueError(
            f"{path}: output {name!r} is not finite; check mean and std in "
            f"{path.stem}.json"
        )
    return output.astype(np.float32)
