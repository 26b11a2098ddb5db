"""Somebody's images and the classes they are said to show, read as they are.

Three layouts: FOLDER/CLASS/*.png; a folder as `cxr_gan.generate` writes it, with
labels.csv; an .npz with `images` uint8 [n, s, s] and `labels` integers [n].
"""

import csv
import dataclasses
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cxr_gan import request
from cxr_gan.data import decode

EXTENSIONS = (".jpeg", ".jpg", ".png")  # in any case
TABLE = "labels.csv"
LAYOUTS = (
    f"accepted are a folder of class folders (FOLDER/CLASS/*.png), one with {TABLE} as "
    "cxr_gan.generate writes it, and an .npz with images uint8 [n, s, s] and labels "
    "int [n]"
)
SMALLEST = 32  # px; below, neither texture nor copies can be told


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """Images of one size, and the class of each: its name, or its label."""

    images: np.ndarray  # uint8 [n, s, s, 1], s >= 32
    classes: tuple[str, ...] | np.ndarray  # names, n of them, or int64 [n]
    where: str  # the path, for errors

    def labels(self, class_names: tuple[str, ...]) -> np.ndarray:
        """int32 [n].

        Raises:
            ValueError: a class is none of class_names; says which may be meant.
        """
        known = ", ".join(class_names)
        if isinstance(self.classes, np.ndarray):
            low, high = self.classes.min(), self.classes.max()
            if low < 0 or high >= len(class_names):
                raise ValueError(
                    f"{self.where}: labels are from {low} to {high}; the data set has "
                    f"labels from 0 to {len(class_names) - 1}: {known}"
                )
            return self.classes.astype(np.int32)
        try:
            number = {
                name: request.label_of(name, class_names) for name in set(self.classes)
            }
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}, in the data set") from error
        return np.array([number[name] for name in self.classes], np.int32)


def read(location: str) -> Given:
    """Reads images as large as they are.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: naming the file: it is no image, in colour, not square or of another
            size than the first; or the layout is none of `LAYOUTS`.
    """
    path = Path(location).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{location}: there is no such path; {LAYOUTS}")
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{location} is a file, but no .npz; {LAYOUTS}")
    return _read_npz(path)


def _read_folder(root: Path) -> Given:
    found = _listed(root) if (root / TABLE).is_file() else _in_class_folders(root)
    if not found:
        raise ValueError(f"{root}: no images in class folders; {LAYOUTS}")
    first, side = found[0][0], _side(found[0][0])

    def square(file: Path) -> decode.Square:
        if _side(file) != side:
            raise ValueError(
                f"{file} has {_side(file)} px, {first.name} has {side}; all images "
                "must be of one size: evaluate each size by itself"
            )
        return decode.read_file(file, side)

    files = [file for file, _ in found]
    images, _ = decode.to_uint8(decode.decode_all(square, files, f"Reading {root}"))
    _check_size(images, str(root))
    return Given(images, tuple(name for _, name in found), str(root))


def _in_class_folders(root: Path) -> list[tuple[Path, str]]:
    """Every image and its class, sorted."""
    return [
        (file, folder.name)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith((".", "__MACOSX"))
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")
    ]


def _listed(root: Path) -> list[tuple[Path, str]]:
    """What labels.csv lists, in its order."""
    with (root / TABLE).open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    if rows and not {"file", "class_name"} <= rows[0].keys():
        raise ValueError(
            f"{root / TABLE}: has the columns {', '.join(map(str, rows[0]))}; must "
            "have file and class_name"
        )
    found = [(root / row["file"], row["class_name"]) for row in rows]
    for file, _ in found:
        if file.parent.resolve() != root.resolve() or not file.is_file():
            raise ValueError(f"{root / TABLE}: lists {file.name}, which is not there")
    return found


def _side(file: Path) -> int:
    """Of a square image; only its head is read."""
    try:
        with Image.open(file) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file}: not an image, or damaged ({error})") from error
    if width != height:
        raise ValueError(f"{file}: {width} x {height} px; images must be square")
    return width


def _read_npz(path: Path) -> Given:
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
        kind = images.dtype
        nan = kind.kind == "f" and not np.isfinite(images).all()
        raise ValueError(
            f"{path}: images are {kind}{' and not all finite' if nan else ''}; must be "
            "uint8 from 0 to 255"
            + ("; look for NaN in them" if nan else ": they are never rescaled here")
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
    return Given(images, labels.astype(np.int64), str(path))


def _check_size(images: np.ndarray, where: str) -> None:
    if not len(images):
        raise ValueError(f"{where}: holds no images; {LAYOUTS}")
    if images.shape[1] < SMALLEST:
        raise ValueError(
            f"{where}: images have {images.shape[1]} px; at least {SMALLEST} are needed"
        )
