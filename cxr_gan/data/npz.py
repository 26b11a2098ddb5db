"""One .npz file in the layout of MedMNIST.

`train_images`, uint8 [n, h, w] or [n, h, w, 3] holding grey, and `train_labels`,
integers [n] or [n, 1]; `val_...` likewise if there; `test_...` is never read. Classes
are called "0", "1", ... unless there is a key `class_names`, strings [K].

Source: Yang et al. 2023, "MedMNIST v2", doi:10.1038/s41597-022-01721-8.
"""

import functools
import zipfile
import zlib
from pathlib import Path

import numpy as np

from cxr_gan.data import decode
from cxr_gan.data.sets import ImageSet, Source, Splits


def open_npz(location: str) -> Source:
    """Finds the file and its arrays; decodes nothing yet.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is no npz or lacks train_images or
            train_labels.
    """
    path = Path(location).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{location}: no such .npz file; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path}: not an .npz file, or a truncated one ({error}); copy it again"
        ) from error
    needed = ["train_images", "train_labels"]
    if "val_images" in keys or "val_labels" in keys:
        needed += ["val_images", "val_labels"]
    missing = [key for key in needed if key not in keys]
    if missing:
        raise ValueError(
            f"{path}: lacks {', '.join(missing)}; it holds "
            f"{', '.join(keys) or 'nothing'}; name its arrays as MedMNIST does: "
            "train_images, train_labels, val_images, ..."
        )
    stat = path.stat()
    fingerprint = f"npz {path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    return Source(fingerprint, functools.partial(_read, path, keys))


def _read(path: Path, keys: list[str], resolution: int) -> Splits:
    labels = _labels(path, "train")
    highest = int(labels.max())
    splits = ["train"]
    if "val_images" in keys:
        splits.append("val")
        highest = max(highest, int(_labels(path, "val").max()))
    names = tuple(str(label) for label in range(highest + 1))
    if "class_names" in keys:
        names = _class_names(path, highest)
    parts = {}
    notes: list[str] = []
    for split in splits:
        parts[split], found = _split(path, split, resolution)
        notes += (f"{path}: {split}: {note}" for note in found)
    return Splits(parts["train"], parts.get("val"), names, tuple(notes))


def _array(path: Path, key: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: cannot read {key}: {error}; save it anew") from error


def _labels(path: Path, split: str) -> np.ndarray:
    """int32 [n], n > 0, none negative."""
    key = f"{split}_labels"
    labels = _array(path, key)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"{path}: {key} has the shape {list(labels.shape)}; must be [n] or [n, 1]: "
            "one label for each image (several labels an image are not supported)"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{path}: {key} is {labels.dtype}; must be integers 0, 1, ...: "
            "save labels.astype('int64')"
        )
    # Beyond a million it is no class number, and nothing of that length is allocated.
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 1_000_000:
        raise ValueError(
            f"{path}: {key} ranges over {low}..{high}; must count from 0 up"
        )
    return labels.astype(np.int32)


def _class_names(path: Path, highest: int) -> tuple[str, ...]:
    names = _array(path, "class_names")
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names)) != len(names):
        raise ValueError(
            f"{path}: class_names is {names.dtype} {list(names.shape)}; must be "
            "different strings, [K]"
        )
    if highest >= len(names):
        raise ValueError(
            f"{path}: labels go up to {highest} but class_names holds {len(names)} "
            f"names; give it {highest + 1}"
        )
    return tuple(str(name) for name in names)


def _split(path: Path, split: str, resolution: int) -> tuple[ImageSet, tuple[str, ...]]:
    key = f"{split}_images"
    images, labels = _array(path, key), _labels(path, split)
    if images.dtype != np.uint8:
        raise ValueError(
            f"{path}: {key} is {images.dtype}; must be uint8 in 0..255: for floats in "
            "[0, 1] save (images * 255).round().astype('uint8'), after removing any NaN"
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"{path}: {key} has the shape {list(images.shape)}; "
            "must be [n, h, w] or [n, h, w, 3]"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{path}: {len(images)} images in {key} but {len(labels)} labels in "
            f"{split}_labels; there must be one label for each image"
        )

    def square(index: int) -> decode.Square:
        return decode.to_square(images[index], resolution, f"{path}: {key}[{index}]")

    squares = decode.decode_all(square, range(len(images)), f"Reading {path}")
    pixels, notes = decode.to_uint8(squares)
    ids = tuple(f"{split}/{index}" for index in range(len(images)))
    return ImageSet(pixels, labels, ids), notes
