"""Finds the image files that a manifest names."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxr_gan.data.formats.file_tree import ENDINGS

HIDDEN = (".", "__MACOSX")  # archives of macOS contain __MACOSX and ._name.png


@dataclasses.dataclass(frozen=True)
class Found:
    """The paths of the names that were found, and what to say of the others."""

    paths: dict[str, str]  # name in the manifest -> path
    missing: tuple[str, ...]
    ambiguous: dict[str, tuple[str, str]]  # name -> the first two files it may mean
    searched: int  # number of files in the tree; 0 if none is missing
    similar: str  # a file like the first missing one; "" if there is none


def find(names: Sequence[str], root: Path) -> Found:
    """Finds every file.

    A name is a path, absolute or relative to root. If there is no such file, it is
    searched for in the tree below root: among the files whose path ends in the longest
    part of the name, from some folder of it on, and then in the same way without the
    ending of the files, such as .dcm. Hidden files, and links that lead back to
    a folder above them, are not searched.
    """
    tree = _Tree(root)
    paths, missing = {}, []
    ambiguous: dict[str, tuple[str, str]] = {}
    prefix = os.path.join(root, "")  # noqa: PTH118, for speed
    for name in dict.fromkeys(names):
        path = name
        if not os.path.isabs(name):  # noqa: PTH117
            path = prefix + (os.path.normpath(name) if "./" in name else name)
        if os.path.isfile(path):  # noqa: PTH113
            paths[name] = path
            continue
        match = tree.search(name)
        if isinstance(match, tuple):
            ambiguous[name] = match
        elif match and os.path.isfile(prefix + match):  # noqa: PTH113, no dead link
            paths[name] = prefix + match
        else:
            missing.append(name)
    searched = len(tree.files) if missing else 0
    similar = tree.similar(missing[0]) if missing else ""
    return Found(paths, tuple(missing), ambiguous, searched, similar)


Match = str | tuple[str, str]  # a path, or the first two of several


class _Tree:
    """The files below a folder, listed when first needed."""

    def __init__(self, root: Path):
        self.root = root
        self.indexes: dict[tuple[int, bool], dict[str, Match]] = {}

    @functools.cached_property
    def files(self) -> list[str]:
        """Paths relative to the folder, with forward slashes; sorted."""
        return sorted(_walk(self.root))

    def index(self, length: int, with_ending: bool) -> dict[str, Match]:
        """The last `length` parts of a path -> the path that ends in them."""
        if (length, with_ending) in self.indexes:
            return self.indexes[length, with_ending]
        index = self.indexes[length, with_ending] = {}
        for file in self.files:
            parts = file.rsplit("/", length)
            if len(parts) < length:
                continue
            tail = "/".join(parts[-length:])
            if not with_ending:
                tail, dot, ending = tail.rpartition(".")
                if (dot + ending).lower() not in ENDINGS:
                    continue
            other = index.setdefault(tail, file)
            if other is not file and isinstance(other, str):
                index[tail] = (other, file)
        return index

    def search(self, name: str) -> Match | None:
        parts = [x for x in name.replace("\\", "/").split("/") if x not in ("", ".")]
        for with_ending in (True, False):
            for start in range(len(parts)):
                index = self.index(len(parts) - start, with_ending)
                match = index.get("/".join(parts[start:]))
                if match is not None:
                    return match
        return None

    def similar(self, name: str) -> str:
        """A file of that name in another case or with another ending."""
        stem = _stem(name)
        return next((file for file in self.files if _stem(file) == stem), "")


def _stem(path: str) -> str:
    return os.path.splitext(path.rpartition("/")[2])[0].lower()  # noqa: PTH122


def _walk(root: Path) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()  # a link to a folder that is listed already
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(x for x in subfolders if not x.startswith(HIDDEN))
        relative = os.path.relpath(folder, root)
        start = "" if relative == "." else relative.replace(os.sep, "/") + "/"
        yield from (start + file for file in files if not file.startswith(HIDDEN))
