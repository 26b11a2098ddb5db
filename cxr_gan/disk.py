"""Files that are whole or not there, and what to say where none can be written."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

UNFINISHED = ".unfinished"  # in place of a file's suffix while it is written


def user_cache() -> pathlib.Path:
    """$XDG_CACHE_HOME/cxr_gan, else ~/.cache/cxr_gan."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(home) if home else pathlib.Path.home() / ".cache") / "cxr_gan"


def local(given: str, flag: str) -> pathlib.Path:
    """The path that was given, unless it is an address, as gs://bucket/runs/a.

    Of which `pathlib` would make a folder called "gs:".

    Raises:
        ValueError: it is an address; says how to copy between it and a folder.
    """
    scheme, slashes, rest = given.partition("://")
    if not slashes or not scheme.isalnum():
        return pathlib.Path(given)
    here = pathlib.PurePosixPath(rest).name
    raise ValueError(
        f"{flag}={given} is no folder of this machine, and nothing else is read or "
        f"written; give one, as {flag}={here}, and copy to it or from it:\n"
        f"  gcloud storage rsync {given} {here} --recursive\n"
        f"  gcloud storage rsync {here} {given} --recursive\n"
        "A training alone takes --workdir=gs://BUCKET/FOLDER as it is"
    )


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
