"""Decoded sets on disk, so that pictures are decoded once."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from cxr_gan import disk
from cxr_gan.damage import DAMAGE
from cxr_gan.data.sets import ImageSet, Splits

FORMAT = 1  # raise it when decoding changes, so that older files are not used


def directory(cache_dir: str | os.PathLike[str] | None) -> Path:
    """cache_dir, else $XDG_CACHE_HOME/cxr_gan, else ~/.cache/cxr_gan."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    return disk.user_cache()


def fetch(
    fingerprint: str,
    resolution: int,
    read: Callable[[int], Splits],
    cache_dir: str | os.PathLike[str] | None,
) -> Splits:
    """read(resolution), from the cache if it was read before.

    A damaged file is read anew and replaced; where the directory cannot be written, the
    set is used without being kept. Both with a warning. Nothing is ever deleted.
    """
    key = hashlib.sha256(f"{FORMAT} {resolution} {fingerprint}".encode()).hexdigest()
    path = directory(cache_dir) / f"{key[:32]}.npz"
    if path.is_file():
        try:
            return _load(path)
        except DAMAGE as error:
            logging.warning("%s: damaged cache (%s); reading anew", path, error)
    splits = read(resolution)
    try:
        _save(path, splits)
    except OSError as error:
        logging.warning("%s: cannot be written (%s); nothing is cached", path, error)
    return splits


def _load(path: Path) -> Splits:
    with np.load(path, allow_pickle=False) as arrays:
        parts = {
            split: ImageSet(
                arrays[f"{split}_images"],
                arrays[f"{split}_labels"],
                tuple(arrays[f"{split}_ids"].tolist()),
            )
            for split in ("train", "val")
            if f"{split}_images" in arrays
        }
        return Splits(
            parts["train"],
            parts.get("val"),
            tuple(arrays["class_names"].tolist()),
            tuple(arrays["notes"].tolist()),
        )


def _save(path: Path, splits: Splits) -> None:
    """Writes beside the file, then renames: a reader sees all of it or nothing."""
    arrays: dict[str, Any] = {
        "class_names": np.array(splits.class_names, np.str_),
        "notes": np.array(splits.notes, np.str_),
    }
    for split, part in (("train", splits.train), ("val", splits.val)):
        if part is not None:
            arrays[f"{split}_images"] = part.images
            arrays[f"{split}_labels"] = part.labels
            arrays[f"{split}_ids"] = np.array(part.ids, np.str_)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
