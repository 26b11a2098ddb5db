"""What commands have in common."""

import pathlib

from absl import logging

from cxr_gan import disk


def empty_folder(out: str) -> pathlib.Path:
    """The folder to write to, not made yet.

    Raises:
        FileExistsError: it is there and not empty, or a file.
        ValueError: it is an address.
    """
    path = disk.local(out, "--out")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"--out={out} is not empty; give a new folder")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"--out={out} is a file; give a new folder")
    return path


def hush() -> None:
    """Orbax tells all it does at INFO, which absl shows; --verbosity=1 still does."""
    if logging.get_verbosity() == logging.INFO:
        logging.set_verbosity(logging.WARNING)
