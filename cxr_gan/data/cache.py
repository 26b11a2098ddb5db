"""A cache of decoded datasets on disk, so that images are decoded only once."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from cxr_gan.data.dataset import ImageSet, RawSplits
from cxr_gan.storage import files
from cxr_gan.storage.checksums import CORRUPT_FILE_ERRORS

FORMAT = 1  # increase it when decoding changes, so that older files are not used


def directory(cache_dir: str | os.PathLike[str] | None) -> Path:
    """cache_dir, else $XDG_CACHE_HOME/cxr_gan, else ~/.cache/cxr_gan."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    return files.user_cache_dir()


def fetch(
    fingerprint: str,
    resolution: int,
    read: Callable[[int], RawSplits],
    cache_dir: str | os.PathLike[str] | None,
) -> RawSplits:
    """The result of read(resolution): cached, or computed and added to the cache.

    A damaged cache file is replaced: `read` is called again. If the directory cannot be
    written, the result is returned but not cached. Both log a warning. The cache never
    deletes files.
    """
    # The key names the file, so existing caches stay valid only if it never changes.
    key = hashlib.sha256(f"{FORMAT} {resolution} {fingerprint}".encode()).hexdigest()
    path = directory(cache_dir) / f"{key[:32]}.npz"
    if path.is_file():
        try:
            return _load(path)
        except CORRUPT_FILE_ERRORS as error:
            logging.warning(
                "%s: damaged cache file (%s); decoding the dataset again", path, error
            )
    splits = read(resolution)
    try:
        _save(path, splits)
    except OSError as error:
        logging.warning(
            "%s: cannot be written (%s); the decoded dataset is not cached", path, error
        )
    return splits


def _load(path: Path) -> RawSplits:
    with np.load(path, allow_pickle=False) as arrays:
        splits = {
            name: ImageSet(
                arrays[f"{name}_images"],
                arrays[f"{name}_labels"],
                tuple(arrays[f"{name}_ids"].tolist()),
            )
            for name in ("train", "val")
            if f"{name}_images" in arrays
        }
        return RawSplits(
            splits["train"],
            splits.get("val"),
            tuple(arrays["class_names"].tolist()),
            tuple(arrays["notes"].tolist()),
        )


def _save(path: Path, splits: RawSplits) -> None:
    """Writes to a temporary file and renames it: readers never see a partial file."""
    arrays: dict[str, Any] = {
        "class_names": np.array(splits.class_names, np.str_),
        "notes": np.array(splits.notes, np.str_),
    }
    for name, split in (("train", splits.train), ("val", splits.val)):
        if split is not None:
            arrays[f"{name}_images"] = split.images
            arrays[f"{name}_labels"] = split.labels
            arrays[f"{name}_ids"] = np.array(split.ids, np.str_)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
