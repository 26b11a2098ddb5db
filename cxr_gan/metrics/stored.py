"""A network's weights on disk: one npz that knows when it was damaged."""

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

from cxr_gan.damage import DAMAGE

CHECKSUM = "sha256"  # name of the array that holds it; no weight is called so


def pack(params: Any, dtype: DTypeLike = np.float32) -> bytes:
    """A nested dict of arrays -> the bytes of an npz, the same for the same weights.

    Names are paths such as `stem/kernel`; `dtype` is how they are stored.

    Raises:
        ValueError: a weight is not finite, or not in `dtype`.
    """
    with np.errstate(over="ignore"):  # it is told below
        flat: dict[str, Any] = {
            name: np.asarray(leaf).astype(dtype)
            for name, leaf in traverse_util.flatten_dict(params, sep="/").items()
        }
    for name, array in flat.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: not finite, or too large for {array.dtype}")
    stream = io.BytesIO()
    arrays = flat | {CHECKSUM: np.array(_checksum(flat))}
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def unpack(data: bytes, like: Any, what: str) -> Any:
    """The weights in the bytes of an npz, float32.

    Args:
        data: what `pack` returned.
        like: a nested dict of arrays or of `jax.ShapeDtypeStruct`: the shapes wanted.
        what: the file's name, for complaints.

    Raises:
        ValueError: the bytes are damaged, or hold weights of another network.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            flat = {name: arrays[name] for name in arrays.files}
        told = str(flat.pop(CHECKSUM))
    except DAMAGE as error:
        raise ValueError(f"{what}: damaged, or no file of weights ({error})") from error
    if told != _checksum(flat):
        raise ValueError(f"{what}: damaged: its weights do not match its checksum")
    wanted = traverse_util.flatten_dict(like, sep="/")
    for name in sorted(wanted.keys() | flat.keys()):
        has = list(flat[name].shape) if name in flat else "absent"
        wants = list(wanted[name].shape) if name in wanted else "absent"
        if has != wants:
            raise ValueError(
                f"{what}: {name} is {has}; this version of cxr_gan wants {wants}: the "
                "file is of another network or version"
            )
    floats = {name: array.astype(np.float32) for name, array in flat.items()}
    return jax.tree.map(jax.numpy.asarray, traverse_util.unflatten_dict(floats, "/"))


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes beside the file, then renames: a reader sees all of it or nothing.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _checksum(flat: dict[str, Any]) -> str:
    """sha256 hex of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(flat):
        array = np.ascontiguousarray(flat[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
