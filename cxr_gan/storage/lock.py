"""A lock that lets one training run at a time use a folder.

The lock is the operating system's, on an open file. It ends with the process that holds
it, however that process ends; the file that stays behind locks nothing. On network file
systems it reaches as far as their own locks: all hosts on NFS, one host on a bucket
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

from cxr_gan.storage import files

LOCK_NAME = "run.lock"


class InUseError(ValueError):
    """Another training uses the folder; names its process."""


@contextlib.contextmanager
def acquire(folder: pathlib.Path) -> Iterator[None]:
    """Holds the exclusive lock on an existing folder during the block.

    On a file system without locks it logs a warning and gives no protection.

    Raises:
        InUseError: another process, or another training run of this process, holds it.
        DiskError: the folder cannot be written.
    """
    path = folder / LOCK_NAME
    with contextlib.ExitStack() as stack:
        with files.translate_os_errors(path):
            file = stack.enter_context(path.open("a+b", buffering=0))
        try:
            _lock(file)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().decode(errors="replace").strip()
            raise InUseError(
                f"{folder} is in use by {holder or 'another process'}; wait until it "
                "ends, stop it, or give another --workdir"
            ) from error
        except OSError as error:
            logging.warning(
                "%s: the file system has no locks (%s); make sure that no other "
                "training uses this folder",
                folder,
                error,
            )
        with files.translate_os_errors(path):
            file.truncate(0)
            file.write(f"{process_description()}\n".encode())
        yield


def _lock(file: IO[bytes]) -> None:
    """Locks the file.

    Raises:
        BlockingIOError: it is already locked.
        OSError: the system or the file system has no locks.
    """
    if sys.platform == "win32":
        raise OSError("not available on Windows")
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def process_description() -> str:
    """This process, its host and the current time, in one line."""
    now = datetime.datetime.now(datetime.UTC)
    host = socket.gethostname()
    return f"process {os.getpid()} on {host} since {now:%Y-%m-%d %H:%M:%S} UTC"
