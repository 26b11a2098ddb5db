"""One training in a folder at a time.

The lock is the system's, on an open file, so it ends with the process that holds it,
however that ends; the file that stays behind locks nothing. On network file systems it
reaches as far as their own locks do: over all hosts on NFS, within one host on a bucket
mounted by gcsfuse.
"""

import contextlib
import datetime
import os
import pathlib
import socket
import sys
from collections.abc import Iterator
from typing import IO

from absl import logging

from cxr_gan import disk

NAME = "run.lock"


class InUseError(ValueError):
    """Another process trains in the folder; says which."""


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Keeps all others out of a folder, which must exist.

    Where the file system knows no locks there is a warning, and no protection.

    Raises:
        InUseError: another process, or another training in this one, is in it.
        DiskError: the folder cannot be written to.
    """
    path = folder / NAME
    with contextlib.ExitStack() as stack:
        with disk.writing(path):
            file = stack.enter_context(path.open("a+b", buffering=0))
        try:
            _lock(file)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().decode(errors="replace").strip()
            raise InUseError(
                f"{folder} is in use by {holder or 'another process'}; wait until it "
                "ends, end it, or give another --workdir"
            ) from error
        except OSError as error:
            logging.warning(
                "%s: no locks there (%s); see to it that nothing else trains in it",
                folder,
                error,
            )
        with disk.writing(path):
            file.truncate(0)
            file.write(f"{signature()}\n".encode())
        yield


def _lock(file: IO[bytes]) -> None:
    """Raises BlockingIOError where another holds it, OSError where there are none."""
    if sys.platform == "win32":
        raise OSError("none for Windows")
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def signature() -> str:
    """Who holds it: process, host and since when; one line."""
    now = datetime.datetime.now(datetime.UTC)
    host = socket.gethostname()
    return f"process {os.getpid()} on {host} since {now:%Y-%m-%d %H:%M:%S} UTC"
