"""Finds the image files that a manifest names."""

import collections
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cxr_gan.data.formats.file_tree import ENDINGS

HIDDEN = (".", "__MACOSX")  # archives of macOS contain __MACOSX and ._name.png


def find(names: Iterable[str], root: Path) -> dict[str, list[str]]:
    """The files that each name may mean, at most two: none if it is not found.

    A name is a path, absolute or relative to root. If there is no such file, it is
    searched for in the tree below root: among the files whose path ends in the longest
    part of the name, from some folder of it on, and then in the same way without the
    ending of the files, such as .dcm. Hidden files, and links that lead back to
    a folder above them, are not searched.

    Returns:
        Name -> paths.
    """
    found: dict[str, list[str]] = {}
    prefix = os.path.join(root, "")  # noqa: PTH118, for speed
    pending: dict[str, list[str]] = {}  # name -> its parts
    for name in dict.fromkeys(names):
        path = prefix + (os.path.normpath(name) if "./" in name else name)
        path = name if os.path.isabs(name) else path  # noqa: PTH117
        found[name] = [path] if os.path.isfile(path) else []  # noqa: PTH113
        if not found[name]:
            parts = name.replace("\\", "/").split("/")
            pending[name] = [part for part in parts if part not in ("", ".")]
    files = sorted(_walk(root)) if pending else []
    deepest = max((file.count("/") + 1 for file in files), default=0)
    for without_ending in (False, True):
        longest = min(max(map(len, pending.values()), default=0), deepest)
        for length in range(longest, 0, -1):
            index = _by_tail(files, length, without_ending)
            for name, parts in list(pending.items()):
                paths = index.get("/".join(parts[-length:]))
                if paths and len(parts) >= length:
                    first_two = (prefix + path for path in paths[:2])
                    found[name] = list(filter(os.path.isfile, first_two))  # or dead
                    del pending[name]
    return found


def _by_tail(
    files: list[str], length: int, without_ending: bool
) -> dict[str, list[str]]:
    """The last `length` parts of a path -> the paths that end in them."""
    index = collections.defaultdict(list)
    for file in files:
        path = file
        if without_ending:
            path, ending = os.path.splitext(file)  # noqa: PTH122
            if ending.lower() not in ENDINGS:
                continue
        parts = path.rsplit("/", length)
        if len(parts) >= length:
            index["/".join(parts[-length:])].append(file)
    return index


def _walk(root: Path) -> Iterator[str]:
    """Paths of files below root, relative to it, with forward slashes."""
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()  # a link to a folder that is listed already
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(x for x in subfolders if not x.startswith(HIDDEN))
        relative = folder[len(os.path.join(root, "")) :]  # noqa: PTH118, for speed
        start = relative.replace(os.sep, "/") + "/" if relative else ""
        yield from (start + file for file in files if not file.startswith(HIDDEN))
