"""Whether a checkpoint that could not be read is damaged."""

import os
import pathlib
from collections.abc import Callable

MISSING = (FileNotFoundError, NotADirectoryError)  # OSErrors that are damage


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or none can be read; says what to do."""


class IntactError(CheckpointError):
    """A checkpoint cannot be used now, but nothing shows that it is damaged."""


def require_damaged(
    folder: pathlib.Path, error: Exception, read: Callable[[], object]
) -> None:
    """Returns if a checkpoint is damaged, and raises IntactError otherwise.

    It is damaged if files are missing, or can be read but have wrong content.

    Args:
        folder: of a checkpoint that could not be read.
        error: why.
        read: reads and verifies it, with arrays of any shape.
    """
    try:
        _raise_unless_damage(error)
        for parent, _, names in os.walk(folder, onerror=_raise_unless_damage):
            for name in names:
                (pathlib.Path(parent) / name).read_bytes()
    except MISSING:
        return
    except (OSError, MemoryError) as reason:
        raise IntactError(
            f"{folder} cannot be read ({first_line(reason)}); it may be intact and "
            "was not moved: remove the cause, then repeat the command"
        ) from error
    try:
        read()
    except Exception:  # Orbax raises many types for damaged files
        return
    raise IntactError(
        f"{folder} is intact, but was not read ({first_line(error)}); repeat the "
        "command, or, if its arrays have other names, shapes or dtypes than those of "
        "this run, use the version of cxr_gan that wrote it"
    ) from error


def _raise_unless_damage(error: BaseException) -> None:
    """Raises the OSError or MemoryError of a chain of errors, if it is no damage."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError | MemoryError) and not isinstance(cause, MISSING):
            raise cause
        cause = cause.__cause__ or cause.__context__


def first_line(error: BaseException) -> str:
    """'ValueError: message', the first line, at most 200 characters."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
