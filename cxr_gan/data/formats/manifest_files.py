"""Finds the image files that a manifest names."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cxr_gan.data.formats.file_tree import ENDINGS

HIDDEN = (".", "__MACOSX")  # archives of macOS contain __MACOSX and ._name.png


def find(names: Iterable[str], root: Path) -> dict[str, tuple[str, ...]]:
    """The files that each name may mean, at most two: none if it is not found.

    A name is a path, absolute or relative to root. If there is no such file, it is
    searched for in the tree below root: among the files whose path ends in the longest
    part of the name, from some folder of it on, and then in the same way without the
    ending of the files, such as .dcm. Hidden files, and links that lead back to
    a folder above them, are not searched.

    Returns:
        Name -> paths.
    """
    found: dict[str, tuple[str, ...]] = {}
    prefix = os.path.join(root, "")  # noqa: PTH118, for speed
    pending: dict[str, str] = {}  # name -> its path with forward slashes
    for name in dict.fromkeys(names):
        path = prefix + (os.path.normpath(name) if "./" in name else name)
        path = name if os.path.isabs(name) else path  # noqa: PTH117
        found[name] = (path,) if os.path.isfile(path) else ()  # noqa: PTH113
        if not found[name]:
            pending[name] = name.replace("\\", "/").removeprefix("./")
    files = sorted(_walk(root)) if pending else []
    deepest = max((file.count("/") + 1 for file in files), default=0)
    longest = max((path.count("/") + 1 for path in pending.values()), default=0)
    for without_ending in (False, True):
        for length in range(min(deepest, longest), 0, -1):
            index = _by_tail(files, length, without_ending)
            for name, path in list(pending.items()):
                paths = index.get(_tail(path, length), ())
                if paths:
                    existing = filter(os.path.isfile, map(prefix.__add__, paths))
                    found[name] = tuple(existing)  # no link to nothing
                    del pending[name]
    return found


def _tail(path: str, length: int) -> str:
    """The last `length` parts of a path; "" if it has fewer."""
    parts = path.rsplit("/", length)
    return "/".join(parts[-length:]) if len(parts) >= length else ""


def _by_tail(
    files: list[str], length: int, without_ending: bool
) -> dict[str, tuple[str, ...]]:
    """The last `length` parts of a path -> the first two paths that end in them."""
    index: dict[str, tuple[str, ...]] = {}
    for file in files:
        path = file
        if without_ending:
            path, ending = os.path.splitext(file)  # noqa: PTH122
            if ending.lower() not in ENDINGS:
                continue
        tail = _tail(path, length)
        known = index.get(tail, ())
        if tail and len(known) < 2:
            index[tail] = (*known, file)
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
