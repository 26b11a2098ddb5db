"""One .npz file in the layout of MedMNIST.

`train_images` is [n, h, w], [n, h, w, c] or [n, c, h, w], with c = 1, or c = 3 and grey
content: integers, or floats in [0, 1]. Integers beyond 255 are scaled by the depth that
`decode.agree_depths` finds. `train_labels` is integer [n] or [n, 1]; the labels need
not begin at 0 nor be without gaps. `val_...` are optional, `test_...` are never read.
A class is named by its label as text, or `class_names[label]` if there is an array
`class_names`, strings [K].

Source: Yang et al. 2023, "MedMNIST v2", doi:10.1038/s41597-022-01721-8.
"""

import functools
import zipfile
from pathlib import Path

import numpy as np

from cxr_gan.data.dataset import RawSplits, Source
from cxr_gan.data.formats import decode
from cxr_gan.storage import files
from cxr_gan.storage.checksums import CORRUPT_FILE_ERRORS


def open_npz(location: str) -> Source:
    """Finds the file and the names of its arrays, without decoding any image.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not an .npz file, or lacks train_images or
            train_labels; names the file.
    """
    path = files.expand_user(location, "dataset")
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
    splits = [split for split in ("train", "val") if f"{split}_images" in keys]
    labels = {split: _read_labels(path, split) for split in splits}
    present = np.unique(np.concatenate(list(labels.values())))
    class_names = tuple(str(label) for label in present)
    if "class_names" in keys:
        class_names = _read_class_names(path, present)
    decoded: list[decode.DecodedImage] = []
    images: list[tuple[int, str]] = []
    for split in splits:
        decoded += _decode_split(path, split, len(labels[split]), resolution)
        indices = np.searchsorted(present, labels[split]).tolist()
        images += [(index, f"{split}/{i}") for i, index in enumerate(indices)]
    num_train = len(labels["train"])
    return decode.to_splits(decoded, images, num_train, class_names)


def _read_array(path: Path, key: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key]
    except CORRUPT_FILE_ERRORS as error:
        raise ValueError(
            f"{path}: cannot read {key}: {error}; save it again"
        ) from error


def _read_labels(path: Path, split: str) -> np.ndarray:
    """Integers [n], n > 0, from 0."""
    key = f"{split}_labels"
    labels = _read_array(path, key)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"{path}: {key} has the shape {list(labels.shape)}; must be [n] or [n, 1]: "
            "one label for each image (several labels per image are not supported)"
        )
    if labels.dtype.kind not in "uib":
        raise ValueError(
            f"{path}: {key} is {labels.dtype}; must be integers, one for each class: "
            "save labels.astype('int64')"
        )
    if labels.min() < 0:
        raise ValueError(
            f"{path}: {key} has the label {labels.min()}; labels must not be negative: "
            "remove the images without a label"
        )
    return labels.astype(np.uint64)


def _read_class_names(path: Path, present: np.ndarray) -> tuple[str, ...]:
    """The name of each label that is present, in their order."""
    names = _read_array(path, "class_names")
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names)) != len(names):
        raise ValueError(
            f"{path}: class_names is {names.dtype} {list(names.shape)}; must be "
            "K different strings, [K]"
        )
    if present[-1] >= len(names):
        raise ValueError(
            f"{path}: labels go up to {present[-1]} but class_names has {len(names)} "
            f"names; class_names[label] must be the name of each label: give it "
            f"{int(present[-1]) + 1} names"
        )
    return tuple(str(names[label]) for label in present)


def _decode_split(
    path: Path, split: str, count: int, resolution: int
) -> list[decode.DecodedImage]:
    """The images of a split, for so many labels."""
    key = f"{split}_images"
    images = as_images(_read_array(path, key), f"{path}: {key}")
    if len(images) != count:
        raise ValueError(
            f"{path}: {len(images)} images in {key} but {count} labels in "
            f"{split}_labels; there must be one label for each image"
        )
    return decode_images(images, resolution, f"{path}: {key}")


def decode_images(
    images: np.ndarray, resolution: int, where: str
) -> list[decode.DecodedImage]:
    """Decodes images as `as_images` returns them; `where` names the array in errors."""

    def decode_image(index: int) -> decode.DecodedImage:
        name = f"{where}[{index}]"
        with decode.none_left_out(name):
            return decode.to_square(images[index], resolution, name)

    return decode.decode_all(decode_image, range(len(images)), f"Reading {where}")


def as_images(images: np.ndarray, where: str) -> np.ndarray:
    """An array of images as `decode.to_square` takes them, [n, h, w, 1 or 3].

    It may lack channels, or have them before height and width. Integers that are all
    at most 255 become uint8; others, and floats in [0, 1], keep their type.

    Raises:
        ValueError: the shape is another one; integers are negative, beyond 65535 or all
            0 and 1; floats are not in [0, 1]; the type is not numeric. The message
            begins with `where`.
    """
    shape = list(images.shape)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    elif images.ndim == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        images = np.moveaxis(images, 1, 3)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in shape:
        raise ValueError(
            f"{where} has the shape {shape}; must be [n, h, w], [n, h, w, 1] or "
            "[n, h, w, 3]"
        )
    kind = images.dtype.kind
    if kind not in "uif":
        raise ValueError(
            f"{where} is {images.dtype}; must be integers from 0 to 65535, or floats "
            "from 0 to 1"
        )
    low, high = images.min(), images.max()
    if kind == "f":
        if not (low >= 0 and high <= 1):  # also if they are NaN
            raise ValueError(
                f"{where} is {images.dtype} from {low} to {high}; floats must be from "
                "0 to 1, without NaN: divide a copy by the largest value that a grey "
                "value can have, and save it as floats"
            )
        return images
    if low < 0 or high > 65535:
        raise ValueError(
            f"{where} is {images.dtype} from {low} to {high}; integers must be from 0 "
            "to 65535: shift all images alike, or save floats from 0 to 1"
        )
    if high <= 1:
        raise ValueError(
            f"{where} is {images.dtype} and has no values but 0 and 1, as floats from "
            "0 to 1 have once they are cast to integers; save the floats themselves"
        )
    return images.astype(np.uint8, copy=False) if high <= 255 else images
