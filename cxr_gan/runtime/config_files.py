"""Reads configuration files: Python files with a function get_config()."""

import importlib.util
import inspect
import pathlib

from ml_collections import ConfigDict


def shipped(name: str) -> pathlib.Path:
    """The path of configs/NAME of the package, installed or in a checkout."""
    package = pathlib.Path(__file__).parents[1]
    installed = package / "configs" / name
    return installed if installed.exists() else package.parent / "configs" / name


def read(path: pathlib.Path, *arguments: str) -> ConfigDict:
    """What get_config(*arguments) of a configuration file returns.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a configuration file, or takes no arguments.
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
    spec = importlib.util.spec_from_file_location("cxr_gan_config", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise ValueError(f"{path} has no get_config(); see configs/quick.py for one")
    if arguments and not inspect.signature(module.get_config).parameters:
        raise ValueError(
            f"{path} takes no argument {arguments[0]!r}; give --config={path}"
        )
    config = module.get_config(*arguments)
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"{path}: get_config() returns a {type(config).__name__}; return an "
            "ml_collections.ConfigDict"
        )
    return config
