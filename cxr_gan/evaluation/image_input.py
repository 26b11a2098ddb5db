"""Reads labelled images from files, at their own size.

Three layouts: FOLDER/CLASS/*.png; a folder that `cxr_gan.generate` wrote, with
labels.csv; an .npz with `images` uint8 [n, s, s] and `labels` integers [n].
"""

import csv
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cxr_gan.data.formats import decode

EXTENSIONS = (".jpeg", ".jpg", ".png")  # in upper or lower case
TABLE = "labels.csv"
LAYOUTS = (
    "accepted are a folder of class folders (FOLDER/CLASS/*.png), a folder with "
    f"{TABLE} as written by cxr_gan.generate, and an .npz with images uint8 [n, s, s] "
    "and labels int [n]"
)
MIN_SIZE = 32  # px; smaller images show neither texture nor copies


# Images uint8 [n, s, s, 1], s >= 32; and their n class names, or labels int64 [n].
LabelledImages = tuple[np.ndarray, tuple[str, ...] | np.ndarray]


def read(location: str) -> LabelledImages:
    """Reads labelled images without resizing them.

    Raises:
        FileNotFoundError: the folder or file does not exist.
        ValueError: a file is not an image, is a colour image, is not square or differs
            in size from the first (the message names the file); or the layout is not
            one of `LAYOUTS`.
    """
    path = Path(location).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{location}: path does not exist; {LAYOUTS}")
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{location} is a file but not an .npz; {LAYOUTS}")
    return _read_npz(path)


def _read_folder(root: Path) -> LabelledImages:
    if (root / TABLE).is_file():
        entries = _list_table(root)
    else:
        entries = _list_class_folders(root)
    if not entries:
        raise ValueError(f"{root}: no images in class folders; {LAYOUTS}")
    first, size = entries[0][0], _image_size(entries[0][0])

    def decode_checked(file: Path) -> decode.DecodedImage:
        if _image_size(file) != size:
            raise ValueError(
                f"{file} has {_image_size(file)} px, {first.name} has {size}; all "
                "images must have the same size: evaluate each size separately"
            )
        return decode.read_file(file, size)

    files = [file for file, _ in entries]
    images, _ = decode.to_uint8(
        decode.decode_all(decode_checked, files, f"Reading {root}")
    )
    _check_size(images, str(root))
    return images, tuple(name for _, name in entries)


def _list_class_folders(root: Path) -> list[tuple[Path, str]]:
    """Every image file and its class name, sorted."""
    return [
        (file, folder.name)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith((".", "__MACOSX"))
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")
    ]


def _list_table(root: Path) -> list[tuple[Path, str]]:
    """The image files and class names of labels.csv, in its order."""
    with (root / TABLE).open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    if rows and not {"file", "class_name"} <= rows[0].keys():
        raise ValueError(
            f"{root / TABLE}: has the columns {', '.join(map(str, rows[0]))}; must "
            "have file and class_name"
        )
    entries = [(root / row["file"], row["class_name"]) for row in rows]
    for file, _ in entries:
        if file.parent.resolve() != root.resolve() or not file.is_file():
            raise ValueError(
                f"{root / TABLE}: lists {file.name}, which is not a file in this folder"
            )
    return entries


def _image_size(file: Path) -> int:
    """Width of a square image in px; reads only the file header."""
    try:
        with Image.open(file) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{file}: not an image, or damaged ({error}); replace it"
        ) from error
    if width != height:
        raise ValueError(f"{file}: {width} x {height} px; images must be square")
    return width


def _read_npz(path: Path) -> LabelledImages:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if missing := {"images", "labels"} - set(arrays):
                raise ValueError(
                    f"lacks {', '.join(sorted(missing))}; it holds {', '.join(arrays)}"
                )
            images, labels = arrays["images"], arrays["labels"]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: {error}; {LAYOUTS}") from error
    if images.dtype != np.uint8:
        dtype = images.dtype
        non_finite = dtype.kind == "f" and not np.isfinite(images).all()
        raise ValueError(
            f"{path}: images are {dtype}"
            + (
                " and not all finite; must be uint8 from 0 to 255; check for NaN"
                if non_finite
                else "; must be uint8 from 0 to 255: images are never rescaled"
            )
        )
    if images.ndim == 4 and images.shape[3] == 3:
        raise ValueError(f"{path}: images are in colour; must be grey, [n, s, s]")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1:] != (images.shape[1], images.shape[1], 1):
        raise ValueError(f"{path}: images are {list(images.shape)}; must be [n, s, s]")
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{path}: labels are {labels.dtype} {list(labels.shape)} for {len(images)} "
            f"images; must be integers [{len(images)}]"
        )
    _check_size(images, str(path))
    return images, labels.astype(np.int64)


def _check_size(images: np.ndarray, source: str) -> None:
    if not len(images):
        raise ValueError(f"{source}: contains no images; {LAYOUTS}")
    if images.shape[1] < MIN_SIZE:
        raise ValueError(
            f"{source}: images have {images.shape[1]} px; at least {MIN_SIZE} px are "
            "required"
        )
