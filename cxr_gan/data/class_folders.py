"""Reads the images of a folder for a model with known classes, without splits."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr_gan.data import preparation, quality
from cxr_gan.data.formats import decode, file_tree, image_file
from cxr_gan.storage import files


class ClassImages(NamedTuple):
    """Images in the order of their paths, and what the user should know of them."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    labels: np.ndarray  # int32 [n]
    notes: tuple[str, ...]


def read(
    location: str, resolution: int, class_names: tuple[str, ...], label: int | None
) -> ClassImages:
    """Reads the images of a folder, with the checks of a data set.

    Args:
        location: the folder.
        resolution: px of a side of the result; no image is enlarged to it.
        class_names: index = label; names of the folders directly below, for
            label=None.
        label: of all images, in folders of any name and depth; None if the folders
            name the classes.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: it has no images; a folder is no class; images are in no class
            folder; or images cannot be used: names them.
        ImportError: no installed package decodes a file; names the package.
    """
    root = files.require_local_path(location, "--images")
    if root.is_file():
        raise FileNotFoundError(f"--images={location} is a file; give its folder")
    if not root.is_dir():
        raise FileNotFoundError(f"--images={location}: no such folder; check the path")
    tree = file_tree.scan(root)
    entries = sorted(
        (root.joinpath(*folder.parts, name), folder.parts[:1])
        for folder in tree.folders
        for name in folder.images
    )
    left_out = [f"left out {count}: {why}" for why, count in tree.left_out.items()]
    if not entries:
        raise ValueError(
            f"--images={location}: no images; {'; '.join([*left_out, 'give a folder'])}"
            f" with {file_tree.KINDS} files"
        )
    if label is not None:
        labels = [label] * len(entries)
    else:
        labels = [_label(root, parts, class_names) for _, parts in entries]

    def decode_checked(path: Path) -> decode.DecodedImage | str:
        """The image, or why it cannot be used."""
        try:
            with decode.none_left_out(str(path)):
                image_file.inspect(path)
                image = image_file.read(path, resolution)
        except ValueError as error:
            return str(error)
        if image.side < resolution:
            return (
                f"the shorter side of {path} has {image.side} px; the model generates "
                f"{resolution} px, and images are not enlarged"
            )
        return image

    paths = [path for path, _ in entries]
    results = decode.decode_all(decode_checked, paths, f"Reading {root}")
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        raise ValueError(preparation.describe_faults(root, faults))
    images, notes = decode.stack([x for x in results if not isinstance(x, str)])
    faults = [
        f"{path} is {fault}"
        for path, image in zip(paths, images, strict=True)
        if (fault := quality.fault(quality.measure(image)))
    ]
    if faults:
        raise ValueError(preparation.describe_faults(root, faults))
    return ClassImages(images, np.array(labels, np.int32), (*left_out, *notes))


def _label(root: Path, parts: tuple[str, ...], class_names: tuple[str, ...]) -> int:
    """The label of an image in the folder of these parts.

    Raises:
        ValueError: the folder is no class.
    """
    if parts and parts[0] in class_names:
        return class_names.index(parts[0])
    known = ", ".join(class_names)
    what = f"the folder {parts[0]!r} is none" if parts else "images are in none"
    raise ValueError(
        f"{root}: {what} of the model's classes, {known}; rename the folder, or give "
        f"the class of all images, such as --label={class_names[0]}"
    )
