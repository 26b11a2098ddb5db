"""Folders of image files: root/{train,val,test}/CLASS/* or root/CLASS/*."""

import functools
import hashlib
from pathlib import Path

import numpy as np
from absl import logging

from cxr_gan.data import decode
from cxr_gan.data.sets import ImageSet, Source, Splits

EXTENSIONS = (".jpeg", ".jpg", ".png")  # in any case
SPLITS = ("train", "val", "test")  # test is never opened: it is not for training
LAYOUT = "root/{train,val,test}/CLASS/*.{jpeg,jpg,png} or root/CLASS/*.{jpeg,jpg,png}"

Files = dict[str, list[Path]]  # class name -> its images, sorted


def open_folder(location: str) -> Source:
    """Lists a folder and checks its layout; decodes nothing yet.

    Hidden entries, `__MACOSX` and files that are no images are left out with a warning.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there are no images, a class is empty or missing in a split, or
            train is missing.
    """
    root = Path(location).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{location}: no such folder; check the path")
    ignored: list[str] = []
    folders = _split_folders(root, ignored)
    parts = {
        split: _classes(folder, root, ignored) for split, folder in folders.items()
    }
    if ignored:
        logging.warning(
            "%s: left out %d entries that are no images of a class, such as %s",
            root,
            len(ignored),
            ", ".join(repr(name) for name in ignored[:5]),
        )
    if not any(any(files.values()) for files in parts.values()):
        raise ValueError(f"{root}: no images found{_hint(root)}; expected {LAYOUT}")
    _check_classes(root, folders, parts)
    return Source(_fingerprint(root, parts), functools.partial(_read, root, parts))


def _is_junk(path: Path) -> bool:
    # A Mac's archiver adds __MACOSX and ._name files that end in .jpeg but are none.
    return path.name.startswith((".", "__MACOSX"))


def _folders(folder: Path, root: Path, ignored: list[str]) -> list[Path]:
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not _is_junk(entry):
            found.append(entry)
        else:
            ignored.append(entry.relative_to(root).as_posix())
    return found


def _split_folders(root: Path, ignored: list[str]) -> dict[str, Path]:
    folders = {folder.name: folder for folder in _folders(root, root, ignored)}
    if not any(split in folders for split in SPLITS):
        return {"train": root} if folders else {}
    if "train" not in folders:
        raise ValueError(
            f"{root}: holds {', '.join(folders)} but no train; expected {LAYOUT}"
        )
    ignored.extend(name for name in folders if name not in SPLITS)
    return {split: folders[split] for split in ("train", "val") if split in folders}


def _classes(split: Path, root: Path, ignored: list[str]) -> Files:
    classes: Files = {}
    before = len(ignored)
    for folder in _folders(split, root, ignored):
        images = classes.setdefault(folder.name, [])
        for entry in sorted(folder.iterdir()):
            is_image = entry.suffix.lower() in EXTENSIONS and entry.is_file()
            if is_image and not _is_junk(entry):
                images.append(entry)
            else:
                ignored.append(entry.relative_to(root).as_posix())
    if split == root:  # its loose entries were named already
        ignored[before:] = [name for name in ignored[before:] if "/" in name]
    return classes


def _hint(root: Path) -> str:
    """Where the data may be: archives often hold one folder more, or loose images."""
    inner = [path.parent for path in root.glob("*/train") if not _is_junk(path.parent)]
    if inner:
        return f"; did you mean {inner[0]}?"
    if any(path.suffix.lower() in EXTENSIONS for path in root.iterdir()):
        return " in class folders: move those that lie loose into one folder per class"
    return ""


def _check_classes(
    root: Path, folders: dict[str, Path], parts: dict[str, Files]
) -> None:
    for split, classes in parts.items():
        for name, images in classes.items():
            if not images:
                raise ValueError(
                    f"{folders[split] / name}: empty class: no .jpeg, .jpg or .png in "
                    f"it; put images there or remove the folder (expected {LAYOUT})"
                )
    if "val" not in parts:
        return
    for has, lacks in (("train", "val"), ("val", "train")):
        alone = [name for name in parts[has] if name not in parts[lacks]]
        if alone:
            raise ValueError(
                f"{root}: class {alone[0]!r} is in {has} but not in {lacks}; add the "
                f"folder {lacks}/{alone[0]} with images, or remove "
                f"{has}/{alone[0]}, or remove val to have a tenth of train held out"
            )


def _fingerprint(root: Path, parts: dict[str, Files]) -> str:
    digest = hashlib.sha256(str(root.resolve()).encode())
    for split, classes in parts.items():
        for name, images in classes.items():
            for path in images:
                stat = path.stat()
                entry = (split, name, path.name, stat.st_size, stat.st_mtime_ns)
                digest.update(repr(entry).encode())
    return f"folder {digest.hexdigest()}"


def _read(root: Path, parts: dict[str, Files], resolution: int) -> Splits:
    """Decodes both splits together, so that 16-bit images share one scale."""
    names = tuple(sorted(parts["train"]))
    paths, labels, ends = [], [], []
    for classes in parts.values():
        for label, name in enumerate(names):
            paths += classes[name]
            labels += [label] * len(classes[name])
        ends.append(len(paths))
    read = functools.partial(decode.read_file, resolution=resolution)
    images, notes = decode.to_uint8(decode.decode_all(read, paths, f"Reading {root}"))
    whole = ImageSet(
        images,
        np.array(labels, np.int32),
        tuple(path.relative_to(root).as_posix() for path in paths),
    )
    is_train = np.arange(len(whole)) < ends[0]
    val = whole.take(~is_train) if "val" in parts else None
    return Splits(
        whole.take(is_train), val, names, tuple(f"{root}: {n}" for n in notes)
    )
