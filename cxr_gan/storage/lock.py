"""A lock that lets one training run at a time use a folder.

The lock is the operating system's, on an open file. It ends with the process that holds
it, however that process ends; the file that stays behind locks nothing. On network file
systems it reaches as far as their own locks: all hosts on NFS, one host on a bucket
mounted by gcsfuse.
"""

import contextlib
import datetime
import errno
import os
import pathlib
import socket
from collections.abc import Iterator

import filelock
from absl import logging

from cxr_gan.storage import files

LOCK_NAME = "run.lock"


class InUseError(ValueError):
    """Another training uses a folder, local or in a bucket; names its process."""

    def __init__(self, folder: object, holder: str):
        self.holder = holder
        super().__init__(
            f"{folder} is in use by {holder}; wait until it ends, stop it, or give "
            "another --workdir"
        )


@contextlib.contextmanager
def acquire(folder: pathlib.Path) -> Iterator[None]:
    """Holds the exclusive lock on an existing folder during the block.

    On a file system without locks it logs a warning and gives no protection.

    Raises:
        InUseError: another process, or another training run of this process, holds it.
        DiskError: the folder cannot be written.
    """
    path = folder / LOCK_NAME

    def record_holder(descriptor: int) -> None:
        with files.translate_os_errors(path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{process_description()}\n".encode())

    with files.translate_os_errors(path):
        path.touch()
    # The soft lock that filelock falls back to would outlive a killed process.
    lock = filelock.FileLock(
        path, blocking=False, fallback_to_soft=False, on_acquired=record_holder
    )
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except filelock.Timeout as error:
            holder = ""
            with contextlib.suppress(OSError):  # Windows lets nobody read a locked file
                holder = path.read_text(encoding="utf-8", errors="replace").strip()
            raise InUseError(folder, holder or "another process") from error
        except files.DiskError:
            raise
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP):
                with files.translate_os_errors(path):
                    raise
            logging.warning(
                "%s: the file system has no locks (%s); make sure that no other "
                "training uses this folder",
                folder,
                error,
            )
        yield


def process_description() -> str:
    """This process, its host and the current time, in one line."""
    now = datetime.datetime.now(datetime.UTC)
    host = socket.gethostname()
    return f"process {os.getpid()} on {host} since {now:%Y-%m-%d %H:%M:%S} UTC"
