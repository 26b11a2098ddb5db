"""Parts shared by the commands: checks of arguments and of --out, quieter logs."""

import pathlib
from collections.abc import Sequence

from absl import logging

from cxr_gan.storage import files


def refuse_arguments(argv: Sequence[str], example: str) -> None:
    """Raises ValueError if anything but flags follows the command; shows an example."""
    if argv[1:]:
        raise ValueError(
            f"unexpected argument {argv[1]!r}; flags are written {example}; see --help"
        )


def new_output_folder(out: str) -> pathlib.Path:
    """The path of an output folder, which is not created yet.

    Raises:
        FileExistsError: the path is a file, or a folder that is not empty.
        ValueError: it is a URL.
    """
    path = files.require_local_path(out, "--out")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"--out={out} is not empty; give a new folder")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"--out={out} is a file; give a new folder")
    return path


def quiet_logging() -> None:
    """Hides INFO logs, where Orbax reports every step; --verbosity=1 shows them."""
    if logging.get_verbosity() == logging.INFO:
        logging.set_verbosity(logging.WARNING)
