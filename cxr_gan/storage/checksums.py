"""CRC-32 checksums of stored arrays and JSON, to detect files that changed on disk."""

import json
import zipfile
import zlib
from typing import Any

import numpy as np

# All errors that NumPy and zipfile raise for flipped, missing or foreign bytes. zipfile
# raises NotImplementedError if a flipped byte names an unknown compression method.
CORRUPT_FILE_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def tree_crc32(tree: Any) -> dict[str, int]:
    """{path: CRC-32} of every array; independent of the container types in the tree."""
    import jax  # slow, and only checkpoints need it

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): zlib.crc32(
            np.ascontiguousarray(leaf).data,
            zlib.crc32(f"{leaf.dtype}{leaf.shape}".encode()),
        )
        for path, leaf in leaves
    }


def json_crc32(content: dict[str, Any]) -> int:
    """CRC-32 of the content as JSON; equal before writing and after reading."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
