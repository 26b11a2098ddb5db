"""Walks a folder: which image files are in which of its folders, and what else is."""

import collections
import dataclasses
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from cxr_gan.data.formats import prepared
from cxr_gan.data.split_words import split_of

# A file with another ending, or none, is an image if its first bytes say so.
ENDINGS = (
    *(".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp"),
    *(".dcm", ".dicom"),
)
KINDS = "JPEG, PNG, TIFF, BMP, WebP or DICOM"
_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    *(b"II*\0", b"MM\0*"),  # TIFF
    b"RIFF....WEBP",  # "." is any byte
    b"." * 128 + b"DICM",
)
_IS_IMAGE = re.compile(
    b"|".join(re.escape(s).replace(rb"\.", b".") for s in _SIGNATURES), re.DOTALL
)
_PREPARED_FILES = {prepared.DATASET, prepared.INDEX, prepared.IMAGES}
_UNPACK = {
    ".zip": "unzip {0}",
    ".7z": "7z x {0}",
    ".rar": "unrar x {0}",
    **dict.fromkeys((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"), "tar -xf {0}"),
    **{".gz": "gunzip {0}", ".bz2": "bunzip2 {0}", ".xz": "unxz {0}"},
}

TEST = "of a test split"
MASK = "of a folder of masks"
UNLABELLED = "of a folder of unlabelled images"
HIDDEN = "hidden"  # or in a hidden folder, or in __MACOSX of archives made by macOS
MISSING = "no file"  # a link to nothing, or a device
LOOP = "a link to a folder above it"
PREPARED = "of a prepared set"
NO_IMAGE = "no image"


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder below the root."""

    parts: tuple[str, ...]  # names of the folders from the root down; () is the root
    images: tuple[str, ...]  # names of its own image files, sorted


@dataclasses.dataclass
class Tree:
    """A folder and what is in it."""

    root: Path
    folders: list[Folder]  # sorted by parts; none that are left out
    tests: list[tuple[str, ...]]  # parts of the folders of a test split
    others: list[str]  # files that are no images, relative to the root
    left_out: collections.Counter[str]  # reason -> files


def scan(root: Path) -> Tree:
    """Lists all files below a folder.

    Files of a test split are counted but not opened. Links are followed.

    Raises:
        ValueError: a name is not UTF-8, or a folder or file cannot be read; names it.
    """
    tree = Tree(root, [], [], [], collections.Counter())
    pending: list[tuple[tuple[str, ...], str, frozenset[tuple[int, int]]]]
    pending = [((), "", frozenset())]
    while pending:
        parts, reason, above = pending.pop()
        path = root.joinpath(*parts)
        stat = path.stat()
        here = (stat.st_dev, stat.st_ino)
        if here in above:
            tree.left_out[reason or LOOP] += 1
            continue
        images = []
        entries = list(_entries(path))
        if parts and not reason and _PREPARED_FILES.issubset(x for x, _ in entries):
            reason = PREPARED
        for name, kind in entries:
            hidden = name.startswith((".", "__MACOSX"))
            why = reason or (HIDDEN if hidden else "")
            if kind == "folder":
                why = why or _reason(name)
                if why == TEST and not reason:
                    tree.tests.append((*parts, name))
                pending.append(((*parts, name), why, above | {here}))
            elif why or kind == "missing":
                tree.left_out[why or MISSING] += 1
            elif _is_image(path, name):
                images.append(name)
            else:
                tree.left_out[NO_IMAGE] += 1
                tree.others.append("/".join((*parts, name)))
        if not reason:
            tree.folders.append(Folder(parts, tuple(images)))
    tree.folders.sort(key=lambda folder: folder.parts)
    tree.others.sort()
    return tree


def _entries(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, "file", "folder" or "missing") of each entry, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except PermissionError as error:
        raise _unreadable(folder, error) from error
    for entry in found:
        try:
            entry.path.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{entry.path!a}: the name is not UTF-8; rename it"
            ) from error
        try:
            kind = "folder" if entry.is_dir() else "file" if entry.is_file() else ""
        except OSError:  # a link to itself
            kind = ""
        yield entry.name, kind or "missing"


def _reason(name: str) -> str:
    """Why a folder of that name is left out; "" if it is not."""
    if re.search(r"(^|[\W_])masks?$", name, re.IGNORECASE):
        return MASK
    if re.fullmatch(r"unlabell?ed", name, re.IGNORECASE):
        return UNLABELLED
    return TEST if split_of(name) == "test" else ""


def _is_image(folder: Path, name: str) -> bool:
    if name.lower().endswith(ENDINGS):
        return True
    path = folder / name
    try:
        with path.open("rb") as file:
            return _IS_IMAGE.match(file.read(132)) is not None
    except PermissionError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ValueError:
    return ValueError(
        f"{path}: cannot be read ({error.strerror}); change its permissions"
    )


def unpack_command(path: Path) -> str | None:
    """The command that unpacks an archive; None if the name is not that of one."""
    suffixes = "".join(path.suffixes[-2:]).lower(), path.suffix.lower()
    commands = [_UNPACK[suffix] for suffix in suffixes if suffix in _UNPACK]
    return commands[0].format(shlex.quote(str(path))) if commands else None
