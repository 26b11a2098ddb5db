"""Folders of image files: root/{train,val,test}/CLASS/* or root/CLASS/*."""

import functools
import hashlib
import itertools
from pathlib import Path

from absl import logging

from cxr_gan.data.dataset import RawSplits, Source, check_classes
from cxr_gan.data.formats import decode

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
    ignored: list[str] = []
    folders = _split_folders(root, ignored)
    splits = {
        split: _class_files(folder, root, ignored) for split, folder in folders.items()
    }
    if ignored:
        logging.warning(
            "%s: ignored %d entries that are not images in a class folder, such as %s",
            root,
            len(ignored),
            ", ".join(repr(name) for name in ignored[:5]),
        )
    if not any(any(classes.values()) for classes in splits.values()):
        raise ValueError(f"{root}: no images found{_hint(root)}; expected {LAYOUT}")
    _check_classes(root, folders, splits)
    return Source(_fingerprint(root, splits), functools.partial(_read, root, splits))


def _is_junk(path: Path) -> bool:
    # macOS archives contain __MACOSX and ._name.jpeg files that are not images.
    return path.name.startswith((".", "__MACOSX"))


def _subfolders(folder: Path, root: Path, ignored: list[str]) -> list[Path]:
    """The folders in a folder, sorted; appends the other entries to `ignored`."""
    folders = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not _is_junk(entry):
            folders.append(entry)
        else:
            ignored.append(entry.relative_to(root).as_posix())
    return folders


def _split_folders(root: Path, ignored: list[str]) -> dict[str, Path]:
    """Split -> its folder; the root itself is train if it has no folders of splits."""
    folders = {folder.name: folder for folder in _subfolders(root, root, ignored)}
    if not any(split in folders for split in SPLITS):
        return {"train": root} if folders else {}
    if "train" not in folders:
        raise ValueError(
            f"{root}: has {', '.join(folders)} but no train; expected {LAYOUT}"
        )
    ignored.extend(name for name in folders if name not in SPLITS)
    return {split: folders[split] for split in ("train", "val") if split in folders}


def _class_files(split: Path, root: Path, ignored: list[str]) -> ClassFiles:
    """The image files of a split; appends the other entries to `ignored`."""
    classes: ClassFiles = {}
    before = len(ignored)
    for folder in _subfolders(split, root, ignored):
        images = classes.setdefault(folder.name, [])
        for entry in sorted(folder.iterdir()):
            is_image = entry.suffix.lower() in EXTENSIONS and entry.is_file()
            if is_image and not _is_junk(entry):
                images.append(entry)
            else:
                ignored.append(entry.relative_to(root).as_posix())
    if split == root:  # _split_folders has added the entries of the root already
        ignored[before:] = [name for name in ignored[before:] if "/" in name]
    return classes


def _hint(root: Path) -> str:
    """Two common mistakes: the data are one folder deeper, or not in class folders."""
    inner = [path.parent for path in root.glob("*/train") if not _is_junk(path.parent)]
    if inner:
        return f"; did you mean {inner[0]}?"
    if any(path.suffix.lower() in EXTENSIONS for path in root.iterdir()):
        return " in class folders: move the loose image files into one folder per class"
    return ""


def _check_classes(
    root: Path, folders: dict[str, Path], splits: dict[str, ClassFiles]
) -> None:
    for split, classes in splits.items():
        for name, images in classes.items():
            if not images:
                raise ValueError(
                    f"{folders[split] / name}: empty class: no .jpeg, .jpg or .png in "
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
    read = functools.partial(decode.read_file, resolution=resolution)
    every = list(itertools.chain(*paths))
    return decode.to_splits(
        decode.decode_all(read, [path for _, path in every], f"Reading {root}"),
        [(label, path.relative_to(root).as_posix()) for label, path in every],
        len(paths[0]),
        class_names,
        str(root),
        are_files=True,
    )
