"""Runs the command of a module of benchmarks in this process."""

import sys
from types import ModuleType
from unittest import mock

from absl import flags

from benchmarks import command_line


def parse(module: ModuleType, *arguments: str) -> flags.FlagValues:
    """The flags of the command."""
    values, argv = flags.FlagValues(), [module.__name__, *arguments]
    with mock.patch.object(sys, "argv", argv):  # where config_flags looks for --config
        command_line.define(module.define_flags, values)
        values(argv)
    return values


def run(module: ModuleType, *arguments: str) -> int:
    """Runs the command; returns its exit code."""
    return command_line.main(module.measure, [""], parse(module, *arguments))
