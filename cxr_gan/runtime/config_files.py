"""Reads configuration files: Python files with a function get_config()."""

import contextlib
import inspect
import pathlib
import runpy
import traceback
from collections.abc import Iterator

from ml_collections import ConfigDict

from cxr_gan.storage import files


def shipped(name: str) -> pathlib.Path:
    """The path of configs/NAME of the package, installed or in a checkout."""
    package = pathlib.Path(__file__).parents[1]
    installed = package / "configs" / name
    return installed if installed.exists() else package.parent / "configs" / name


def locate(value: str) -> tuple[pathlib.Path, list[str]]:
    """The file and the arguments of get_config() in FILE or FILE:ARGUMENT.

    x.py and configs/x.py are the file of the package if the current folder has none.
    """
    file, colon, argument = value.partition(":")
    path = files.expand_user(file, "--config")
    packaged = shipped(path.name)
    if path.parent.name in ("", "configs") and not path.exists() and packaged.exists():
        path = packaged
    return path, [argument] if colon else []


def read(path: pathlib.Path, *arguments: str) -> ConfigDict:
    """What get_config(*arguments) of a configuration file returns.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a configuration file, takes no arguments, or raises an
            error; then the message names the line.
    """
    if not path.is_file():
        known = sorted(file.name for file in shipped("acgan.py").parent.glob("*.py"))
        raise FileNotFoundError(
            f"{path}: no such configuration file; the package has "
            + ", ".join(f"configs/{name}" for name in known)
        )
    if path.suffix != ".py":
        raise ValueError(
            f"{path} is not a .py file; give a Python file with a get_config()"
        )
    with _translate_errors(path):
        get_config = runpy.run_path(str(path)).get("get_config")
    if not callable(get_config):
        raise ValueError(f"{path} has no get_config(); see configs/quick.py for one")
    if arguments and not inspect.signature(get_config).parameters:
        raise ValueError(
            f"{path} takes no argument {arguments[0]!r}; give --config={path}"
        )
    with _translate_errors(path):
        config = get_config(*arguments)
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"{path}: get_config() returns a {type(config).__name__}; return an "
            "ml_collections.ConfigDict"
        )
    return config


@contextlib.contextmanager
def _translate_errors(path: pathlib.Path) -> Iterator[None]:
    """Raises any error of the file's code as a ValueError that names the line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f"line {lines[-1]}: " if lines else ""
        raise ValueError(
            f"{path}: {where}{type(error).__name__}: {error}; correct the file"
        ) from error
