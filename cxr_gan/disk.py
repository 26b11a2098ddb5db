"""Files that are whole or not there, and what to say of a disk that takes none."""

import contextlib
import pathlib
from collections.abc import Iterator

UNFINISHED = ".unfinished"  # in place of a file's suffix while it is written


class DiskError(OSError):
    """A file cannot be written: the disk is full, read-only or gone; says which."""


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Whatever the system answers while `path` is written, told in one sentence.

    Raises:
        DiskError: naming the path, the system's words, and what to do.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        why = error.strerror or error
        raise DiskError(
            f"{path} cannot be written ({why}); make room or mend it"
        ) from error


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Another name to write to, which becomes `path` when all is written.

    Until then, and where it fails, what bore the name before stays as it was.

    Raises:
        DiskError: see `writing`.
    """
    unfinished = path.with_suffix(UNFINISHED)
    with writing(path):
        try:
            yield unfinished
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
