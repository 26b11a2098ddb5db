"""Weights of a network in one npz file with a checksum that detects damage."""

import hashlib
import io
import os
import uuid
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from numpy.typing import DTypeLike

from cxr_gan.storage.checksums import CORRUPT_FILE_ERRORS

CHECKSUM = "sha256"  # array of the npz that holds the checksum; not a weight's name


def pack(params: Any, dtype: DTypeLike = np.float32) -> bytes:
    """The bytes of an npz of a nested dict of arrays; equal for equal weights.

    Arrays are named by their paths, such as `stem/kernel`. Floats are stored as
    `dtype`, integers as they are.

    Raises:
        ValueError: a weight is not finite, or too large for `dtype`.
    """
    with np.errstate(over="ignore"):  # overflow raises the ValueError below
        flat: dict[str, Any] = {
            name: _with_floats(np.asarray(leaf), dtype)
            for name, leaf in traverse_util.flatten_dict(params, sep="/").items()
        }
    for name, array in flat.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: not finite, or too large for {array.dtype}")
    stream = io.BytesIO()
    arrays = flat | {CHECKSUM: np.array(_checksum(flat))}
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def unpack(data: bytes, like: Any, file_name: str) -> Any:
    """The weights in the bytes of an npz, as a nested dict of arrays; floats: float32.

    Args:
        data: result of `pack`.
        like: nested dict of arrays or `jax.ShapeDtypeStruct` with the expected shapes;
            None for any.
        file_name: for error messages.

    Raises:
        ValueError: the bytes are damaged, or hold the weights of another network.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            flat = {name: arrays[name] for name in arrays.files}
        stored_checksum = str(flat.pop(CHECKSUM))
    except CORRUPT_FILE_ERRORS as error:
        raise ValueError(
            f"{file_name}: damaged, or not a weights file ({error})"
        ) from error
    if stored_checksum != _checksum(flat):
        raise ValueError(f"{file_name}: damaged: its weights do not match its checksum")
    expected = flat if like is None else traverse_util.flatten_dict(like, sep="/")
    for name in sorted(expected.keys() | flat.keys()):
        shape = list(flat[name].shape) if name in flat else "absent"
        expected_shape = list(expected[name].shape) if name in expected else "absent"
        if shape != expected_shape:
            raise ValueError(
                f"{file_name}: {name} is {shape}; this version of cxr_gan expects "
                f"{expected_shape}: the file is of another network or version"
            )
    arrays = {name: _with_floats(array, np.float32) for name, array in flat.items()}
    return jax.tree.map(jax.numpy.asarray, traverse_util.unflatten_dict(arrays, "/"))


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file atomically: readers never see a part of the new file.

    The bytes go to a temporary file beside it, which is then renamed.

    Raises:
        OSError: the folder cannot be created or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _with_floats(array: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """The array as dtype if it is of floats; else as it is."""
    return array.astype(dtype) if array.dtype.kind == "f" else array


def _checksum(flat: dict[str, Any]) -> str:
    """SHA-256 hex digest of the names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(flat):
        array = np.ascontiguousarray(flat[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
