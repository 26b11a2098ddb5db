"""Checksums of what is written, so that flipped bytes do not pass for weights."""

import json
import zlib
from typing import Any

import jax
import numpy as np


def crcs(tree: Any) -> dict[str, int]:
    """{path: CRC-32} of every array; the same whatever container holds them."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): zlib.crc32(
            np.ascontiguousarray(leaf).data,
            zlib.crc32(f"{leaf.dtype}{leaf.shape}".encode()),
        )
        for path, leaf in leaves
    }


def crc_of_json(content: dict[str, Any]) -> int:
    """CRC-32 of what survives JSON: the same before writing and after reading."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
