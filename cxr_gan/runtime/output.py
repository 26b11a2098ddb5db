"""Drops output that cannot be written: to a closed pipe, a full disk, a lost terminal.

A failed write never ends a command.
"""

import contextlib
import os
import pathlib
import sys
from typing import Any, TextIO


class Tolerant:
    """Text stream that drops what cannot be written, and else is as the given one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text, or drops it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or keeps it."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def tolerate_errors() -> None:
    """Makes stdout and stderr `Tolerant` for the rest of the process.

    Python then also exits as usual: a stream that cannot be flushed at the end would
    make the exit code 120. A stream that was closed before the start is replaced by
    os.devnull.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or _open_devnull()
        setattr(sys, name, Tolerant(stream))


def _open_devnull() -> TextIO:
    return pathlib.Path(os.devnull).open("w", encoding="utf-8")
