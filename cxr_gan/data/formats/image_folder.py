"""Folders of image files: root/{train,val,test}/CLASS/* or root/CLASS/*."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

from absl import logging

from cxr_gan.data.dataset import RawSplits, Source, check_classes
from cxr_gan.data.formats import decode, image_file

EXTENSIONS = (".jpeg", ".jpg", ".png")  # in upper or lower case
SPLITS = ("train", "val", "test")  # test is never opened: it is not for training
LAYOUT = "root/{train,val,test}/CLASS/*.{jpeg,jpg,png} or root/CLASS/*.{jpeg,jpg,png}"

ClassFiles = dict[str, list[Path]]  # class name -> its image files, sorted


def open_folder(location: str) -> Source:
    """Lists a folder and checks its layout, without decoding any image.

    Hidden entries, `__MACOSX` and files that are not images are ignored with a warning.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there are no images, a class is empty or missing in a split, or
            train is missing.
    """
    root = Path(location).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{location}: no such folder; check the path")
    ignored: list[Path] = []
    folders = {folder.name: folder for folder in _entries(root, Path.is_dir, ignored)}
    found = [split for split in SPLITS if split in folders]
    if not found:
        splits = {"train": _class_files(folders.values(), ignored)}
    elif "train" in found:
        ignored += [folder for name, folder in folders.items() if name not in SPLITS]
        splits = {
            split: _class_files(_entries(folders[split], Path.is_dir, ignored), ignored)
            for split in found
            if split != "test"
        }
    else:
        raise ValueError(
            f"{root}: has {', '.join(folders)} but no train; expected {LAYOUT}"
        )
    if ignored:
        logging.warning(
            "%s: ignored %d entries that are not images in a class folder, such as %s",
            root,
            len(ignored),
            ", ".join(repr(path.relative_to(root).as_posix()) for path in ignored[:5]),
        )
    if not any(any(classes.values()) for classes in splits.values()):
        raise ValueError(f"{root}: no images found{_hint(root)}; expected {LAYOUT}")
    _check_classes(root, splits)
    return Source(_fingerprint(root, splits), functools.partial(_read, root, splits))


def _is_junk(path: Path) -> bool:
    # macOS archives contain __MACOSX and ._name.jpeg files that are not images.
    return path.name.startswith((".", "__MACOSX"))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def _entries(
    folder: Path, wanted: Callable[[Path], bool], ignored: list[Path]
) -> list[Path]:
    """The wanted entries of a folder, sorted; appends the others to `ignored`."""
    entries: list[Path] = []
    for entry in sorted(folder.iterdir()):
        try:
            str(entry).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{str(entry)!a}: the name is not UTF-8; rename it"
            ) from error
        is_wanted = not _is_junk(entry) and wanted(entry)
        (entries if is_wanted else ignored).append(entry)
    return entries


def _class_files(folders: Iterable[Path], ignored: list[Path]) -> ClassFiles:
    return {folder.name: _entries(folder, _is_image, ignored) for folder in folders}


def _hint(root: Path) -> str:
    """Two common mistakes: the data are one folder deeper, or not in class folders."""
    inner = [path.parent for path in root.glob("*/train") if not _is_junk(path.parent)]
    if inner:
        return f"; did you mean {inner[0]}?"
    if any(path.suffix.lower() in EXTENSIONS for path in root.iterdir()):
        return " in class folders: move the loose image files into one folder per class"
    return ""


def _check_classes(root: Path, splits: dict[str, ClassFiles]) -> None:
    for split, classes in splits.items():
        folder = root / split if (root / split).is_dir() else root
        for name, images in classes.items():
            if not images:
                raise ValueError(
                    f"{folder / name}: empty class: no .jpeg, .jpg or .png in "
                    f"it; put images there or remove the folder (expected {LAYOUT})"
                )
    names = sorted({name for classes in splits.values() for name in classes})
    counts = {
        split: [len(classes.get(name, ())) for name in names]
        for split, classes in splits.items()
    }
    check_classes(names, counts["train"], counts.get("val"), str(root))


def _fingerprint(root: Path, splits: dict[str, ClassFiles]) -> str:
    """Hash of the path of the folder and of names, sizes and times of all files."""
    # The fingerprint is hashed into the cache key: keep what is hashed here.
    digest = hashlib.sha256(str(root.resolve()).encode())
    for split, classes in splits.items():
        for name, images in classes.items():
            for path in images:
                stat = path.stat()
                entry = (split, name, path.name, stat.st_size, stat.st_mtime_ns)
                digest.update(repr(entry).encode())
    return f"folder {digest.hexdigest()}"


def _read(root: Path, splits: dict[str, ClassFiles], resolution: int) -> RawSplits:
    class_names = tuple(sorted(splits["train"]))
    paths = [
        [
            (label, path)
            for label, name in enumerate(class_names)
            for path in split[name]
        ]
        for split in splits.values()
    ]

    def read(path: Path) -> decode.DecodedImage:
        with decode.none_left_out(str(path)):
            return image_file.read(path, resolution)

    every = list(itertools.chain(*paths))
    return decode.to_splits(
        decode.decode_all(read, [path for _, path in every], f"Reading {root}"),
        [(label, path.relative_to(root).as_posix()) for label, path in every],
        len(paths[0]),
        class_names,
        str(root),
        are_files=True,
    )
