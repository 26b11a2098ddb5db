"""One .npz file in the layout of MedMNIST.

`train_images` is uint8 [n, h, w], or [n, h, w, 3] with grey content, and `train_labels`
is integer [n] or [n, 1]. `val_...` are optional, `test_...` are never read. Classes are
named "0", "1", ... unless there is an array `class_names`, strings [K].

Source: Yang et al. 2023, "MedMNIST v2", doi:10.1038/s41597-022-01721-8.
"""

import functools
import zipfile
from pathlib import Path

import numpy as np

from cxr_gan.data.dataset import RawSplits, Source
from cxr_gan.data.formats import decode
from cxr_gan.storage.checksums import CORRUPT_FILE_ERRORS

MAX_LABEL = 1_000_000  # checked before arrays of that length are allocated


def open_npz(location: str) -> Source:
    """Finds the file and the names of its arrays, without decoding any image.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not an .npz file, or lacks train_images or
            train_labels; names the file.
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
    required = ["train_images", "train_labels"]
    if "val_images" in keys or "val_labels" in keys:
        required += ["val_images", "val_labels"]
    missing = [key for key in required if key not in keys]
    if missing:
        raise ValueError(
            f"{path}: lacks {', '.join(missing)}; it contains "
            f"{', '.join(keys) or 'nothing'}; name its arrays as MedMNIST does: "
            "train_images, train_labels, val_images, ..."
        )
    stat = path.stat()
    # The fingerprint is hashed into the cache key: keep its format.
    fingerprint = f"npz {path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    return Source(fingerprint, functools.partial(_read, path, keys))


def _read(path: Path, keys: list[str], resolution: int) -> RawSplits:
    decoded: list[decode.DecodedImage] = []
    images: list[tuple[int, str]] = []
    splits = [split for split in ("train", "val") if f"{split}_images" in keys]
    labels = {split: _read_labels(path, split) for split in splits}
    max_label = int(max(of_split.max() for of_split in labels.values()))
    class_names = tuple(str(label) for label in range(max_label + 1))
    if "class_names" in keys:
        class_names = _read_class_names(path, max_label)
    for split in splits:
        decoded += _decode_split(path, split, len(labels[split]), resolution)
        images += [(int(x), f"{split}/{i}") for i, x in enumerate(labels[split])]
    num_train = len(labels["train"])
    return decode.to_splits(decoded, images, num_train, class_names, str(path))


def _read_array(path: Path, key: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key]
    except CORRUPT_FILE_ERRORS as error:
        raise ValueError(
            f"{path}: cannot read {key}: {error}; save it again"
        ) from error


def _read_labels(path: Path, split: str) -> np.ndarray:
    """Integers [n], n > 0, each in 0..MAX_LABEL."""
    key = f"{split}_labels"
    labels = _read_array(path, key)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"{path}: {key} has the shape {list(labels.shape)}; must be [n] or [n, 1]: "
            "one label for each image (several labels per image are not supported)"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{path}: {key} is {labels.dtype}; must be integers 0, 1, ...: "
            "save labels.astype('int64')"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MAX_LABEL:
        raise ValueError(
            f"{path}: {key} ranges over {low}..{high}; number the classes 0, 1, ..."
        )
    return labels


def _read_class_names(path: Path, max_label: int) -> tuple[str, ...]:
    names = _read_array(path, "class_names")
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names)) != len(names):
        raise ValueError(
            f"{path}: class_names is {names.dtype} {list(names.shape)}; must be "
            "K different strings, [K]"
        )
    if max_label >= len(names):
        raise ValueError(
            f"{path}: labels go up to {max_label} but class_names has {len(names)} "
            f"names; give it {max_label + 1}"
        )
    return tuple(str(name) for name in names)


def _decode_split(
    path: Path, split: str, count: int, resolution: int
) -> list[decode.DecodedImage]:
    """The images of a split, for so many labels."""
    key = f"{split}_images"
    images = _read_array(path, key)
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
    if len(images) != count:
        raise ValueError(
            f"{path}: {len(images)} images in {key} but {count} labels in "
            f"{split}_labels; there must be one label for each image"
        )

    def decode_image(index: int) -> decode.DecodedImage:
        return decode.to_square(images[index], resolution, f"{path}: {key}[{index}]")

    return decode.decode_all(decode_image, range(count), f"Reading {path}")
