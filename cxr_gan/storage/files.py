"""Atomic writes, local paths, and one error type for files that cannot be written."""

import contextlib
import csv
import os
import pathlib
import urllib.parse
from collections.abc import Iterable, Iterator

PARTIAL_SUFFIX = ".unfinished"  # replaces a file's suffix while it is written


def user_cache_dir() -> pathlib.Path:
    """$XDG_CACHE_HOME/cxr_gan, or ~/.cache/cxr_gan if that variable is not set."""
    home = os.environ.get("XDG_CACHE_HOME")
    return expand_user(home or "~/.cache", "XDG_CACHE_HOME") / "cxr_gan"


def last_name(path: str) -> str:
    """The last part of a path; the folders above may name machines and people.

    tfds:NAME is returned unchanged, because it is not a path.
    """
    return path if path.startswith("tfds:") else pathlib.PurePath(path).name or path


def expand_user(path: str | os.PathLike[str], flag: str) -> pathlib.Path:
    """The path, with the home directory in place of ~, as a shell writes it.

    Args:
        path: value of the flag.
        flag: name of the flag, for the error message.

    Raises:
        FileNotFoundError: the path begins with ~NAME, and there is no such user.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{flag}={path}: there is no home directory of that name; give the path "
            "without ~"
        ) from error


def require_local_path(path: str, flag: str) -> pathlib.Path:
    """The path, unless it is a URL such as gs://bucket/runs/a or file:///data.

    ~ is expanded.

    `pathlib` would accept a URL and create a folder named "gs:".

    Args:
        path: value of the flag.
        flag: name of the flag, for the error message.

    Raises:
        FileNotFoundError: as `expand_user`.
        ValueError: the path is a URL; says how to copy what is there to a local
            folder, or gives the path that a file:// address names.
    """
    scheme, slashes, rest = path.partition("://")
    if path.startswith("file:/"):
        local = path.removeprefix("file:").removeprefix("//").removeprefix("localhost")
        raise ValueError(
            f"{flag}={path} is an address; give the path itself: "
            f"{flag}={urllib.parse.unquote(local)}"
        )
    if not slashes or not scheme.isalnum():
        return expand_user(path, flag)
    local = pathlib.PurePosixPath(urllib.parse.urlsplit(path).path or rest).name
    copy = {"gs": "gcloud storage rsync {} {} --recursive", "s3": "aws s3 sync {} {}"}
    only_local = f"{flag}={path} is not a local folder, and only local folders are read"
    if scheme not in copy:
        raise ValueError(
            f"{only_local} and written; download it, unpack an archive, and give the "
            f"folder, such as {flag}={pathlib.PurePosixPath(local).stem}"
        )
    raise ValueError(
        f"{only_local} and written; give one, such as {flag}={local}, and copy it with:"
        f"\n  {copy[scheme].format(path, local)}"
        f"\n  {copy[scheme].format(local, path)}"
        "\nOnly training accepts a bucket: --workdir=gs://BUCKET/FOLDER"
    )


class DiskError(OSError):
    """A file cannot be written: the disk is full, read-only or gone; names the file."""


@contextlib.contextmanager
def translate_os_errors(path: pathlib.Path) -> Iterator[None]:
    """Raises any OSError of the block as a DiskError that names `path`.

    Raises:
        DiskError: names the path, the system's reason, and what to do. A DiskError
            from within the block passes unchanged.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(
            f"{path} cannot be written ({reason}); free disk space or repair the disk"
        ) from error


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path, which is renamed to `path` when the block succeeds.

    Until then, and if the block fails, an existing file at `path` stays unchanged.

    Raises:
        DiskError: the file cannot be written; see `translate_os_errors`.
    """
    unfinished = path.with_suffix(PARTIAL_SUFFIX)
    with translate_os_errors(path):
        try:
            yield unfinished
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def write_table(path: pathlib.Path, rows: Iterable[Iterable[object]]) -> None:
    """Writes a CSV file, at once.

    Raises:
        DiskError: it cannot be written.
    """
    with (
        atomic_write(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(rows)


def with_parents(path: pathlib.Path) -> pathlib.Path:
    """The path, after the folders above it are made.

    Raises:
        DiskError: one of them cannot be made.
    """
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes UTF-8 text by `atomic_write`.

    Raises:
        DiskError: the file cannot be written.
    """
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
