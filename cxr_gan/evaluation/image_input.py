"""Reads labelled images from files, at their own size, as a data set is read.

Four layouts: FOLDER/CLASS/*; a folder that `cxr_gan.generate` wrote, with labels.csv; a
folder with metadata.csv (see `manifest.open_manifest`); an .npz with `images`, as
`npz` reads them, `labels` integers [n] and optionally `class_names`, strings [K].
"""

import csv
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_gan.data import preparation, quality
from cxr_gan.data.formats import decode, file_tree, image_file, manifest, npz
from cxr_gan.data.listing import ReadOptions
from cxr_gan.sampling.image_files import ARCHIVE, LABELS
from cxr_gan.storage import files

LAYOUTS = (
    f"accepted are a folder of class folders ({file_tree.KINDS} in FOLDER/CLASS/), a "
    f"folder with {LABELS} as written by cxr_gan.generate or with {manifest.METADATA}, "
    "and an .npz with images [n, s, s] and labels int [n]"
)
MIN_SIZE = 32  # px; smaller images show neither texture nor copies
MAX_COMPARED = 1000  # images of either side whose ranges are measured


class LabelledImages(NamedTuple):
    """Images, their classes, and what the user should know of how they were read."""

    images: np.ndarray  # uint8 [n, s, s, 1], s >= 32
    classes: tuple[str, ...] | np.ndarray  # n class names, or labels int64 [n]
    notes: tuple[str, ...]


def read(location: str) -> LabelledImages:
    """Reads labelled images without resizing them.

    Raises:
        FileNotFoundError: the folder or file does not exist.
        ValueError: a file is not an image, is a colour image, is not square or differs
            in size from the first (the message names the file); or the layout is not
            one of `LAYOUTS`.
        ImportError: no installed package decodes a file; names the package.
    """
    path = files.expand_user(location, "--images")
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{location}: path does not exist; {LAYOUTS}")
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{location} is a file but not an .npz; {LAYOUTS}")
    return _read_npz(path)


def compare_ranges(images: np.ndarray, real: np.ndarray) -> str | None:
    """A sentence that says how images and the data set differ in range, if clearly.

    Args:
        images: uint8 [n, s, s, 1].
        real: images of the data set, uint8 [m, s, s, 1].
    """
    given, reference = (
        [quality.measure(image) for image in side[:: len(side) // MAX_COMPARED + 1]]
        for side in (images, real)
    )
    note = quality.compare(given, reference, "the images", "those of the data set")
    return note and f"{note}; check that both are scaled alike"


def _read_folder(root: Path) -> LabelledImages:
    found: tuple[str, ...] = ()
    if (root / LABELS).is_file() and (root / ARCHIVE).is_file():
        return _read_npz(root / ARCHIVE)
    if (root / LABELS).is_file():
        entries = _list_table(root)
    elif (root / manifest.METADATA).is_file():
        listing = manifest.open_manifest(str(root), ReadOptions(views="all"))
        entries = [(entry.path, entry.class_name) for entry in listing.entries]
        found = listing.notes
    else:
        entries = _list_class_folders(root)
    if not entries:
        raise ValueError(f"{root}: no images in class folders; {LAYOUTS}")
    first, size = entries[0][0], _image_size(entries[0][0])

    def decode_checked(file: Path) -> decode.DecodedImage | str:
        """The image, or why it cannot be used."""
        try:
            if _image_size(file) != size:
                return (
                    f"{file} has {_image_size(file)} px, {first.name} has {size}; all "
                    "images must have the same size: evaluate each size separately"
                )
            with decode.none_left_out(str(file)):
                return image_file.read(file, size)
        except ValueError as error:
            return str(error)

    paths = [file for file, _ in entries]
    results = decode.decode_all(decode_checked, paths, f"Reading {root}")
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        raise ValueError(preparation.describe_faults(root, faults))
    images, notes = decode.stack([x for x in results if not isinstance(x, str)])
    _check_size(images, str(root))
    return LabelledImages(images, tuple(name for _, name in entries), found + notes)


def _list_class_folders(root: Path) -> list[tuple[Path, str]]:
    """Every image file and its class, the folder directly below the root; sorted."""
    return [
        (root.joinpath(*folder.parts, name), folder.parts[0])
        for folder in file_tree.scan(root).folders
        for name in folder.images
        if folder.parts
    ]


def _list_table(root: Path) -> list[tuple[Path, str]]:
    """The image files and class names of labels.csv, in its order."""
    with (root / LABELS).open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    if rows and not {"file", "class_name"} <= rows[0].keys():
        raise ValueError(
            f"{root / LABELS}: has the columns {', '.join(map(str, rows[0]))}; must "
            "have file and class_name"
        )
    entries = [(root / row["file"], row["class_name"]) for row in rows]
    for file, _ in entries:
        inside = file.resolve().is_relative_to(root.resolve())
        if not inside or not file.is_file():
            raise ValueError(
                f"{root / LABELS}: lists {file.name}, which is not a file in this "
                "folder"
            )
    return entries


def _image_size(file: Path) -> int:
    """Width of a square image in px; reads only the file header."""
    with decode.none_left_out(str(file)):
        header = image_file.inspect(file, views="all")
    if header.width != header.height:
        raise ValueError(
            f"{file}: {header.width} x {header.height} px; images must be square"
        )
    return header.width


def _read_npz(path: Path) -> LabelledImages:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if missing := {"images", "labels"} - set(arrays):
                raise ValueError(
                    f"lacks {', '.join(sorted(missing))}; it holds {', '.join(arrays)}"
                )
            images, labels = arrays["images"], arrays["labels"]
            names = arrays.get("class_names")
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: {error}; {LAYOUTS}") from error
    read = from_arrays(images, labels, str(path))
    if names is None or isinstance(read.classes, tuple):
        return read
    return read._replace(classes=_name(read.classes, names, str(path)))


def from_arrays(images: Any, labels: Any, source: str) -> LabelledImages:
    """Images and labels from arrays.

    Args:
        images: integers, or floats in [0, 1], [n, s, s] or [n, s, s, 1].
        labels: integers [n], or n class names.
        source: where they are from, for messages.

    Raises:
        ValueError: the images are not square, or smaller than MIN_SIZE, or the labels
            do not fit them.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    images = npz.as_images(images, f"{source}: images")
    size = images.shape[1]
    if images.shape[2] != size:
        raise ValueError(
            f"{source}: images are {list(images.shape)}; must be [n, s, s]"
        )
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    known = np.issubdtype(labels.dtype, np.integer) or labels.dtype.kind == "U"
    if not known or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{source}: labels are {labels.dtype} {list(labels.shape)} for "
            f"{len(images)} images; give {len(images)} integers or class names"
        )
    decoded = npz.decode_images(images, size, f"{source}: images")
    images, notes = decode.stack(decoded)
    _check_size(images, source)
    if labels.dtype.kind == "U":
        return LabelledImages(images, tuple(map(str, labels)), notes)
    return LabelledImages(images, labels.astype(np.int64), notes)


def _name(labels: np.ndarray, names: np.ndarray, source: str) -> tuple[str, ...]:
    """The class name of each label."""
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"{source}: class_names is {names.dtype} {list(names.shape)}; must be "
            "strings [K], one for each label"
        )
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(
            f"{source}: labels are from {labels.min()} to {labels.max()} but "
            f"class_names has {len(names)} names; class_names[label] must be the name "
            "of each label"
        )
    return tuple(str(names[label]) for label in labels)


def _check_size(images: np.ndarray, source: str) -> None:
    if images.shape[1] < MIN_SIZE:
        raise ValueError(
            f"{source}: images have {images.shape[1]} px; at least {MIN_SIZE} px are "
            "required"
        )
