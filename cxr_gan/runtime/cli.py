"""What the commands share: checks of arguments and of --out, errors, quieter logs."""

import functools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

from absl import app, flags, logging

from cxr_gan.runtime import jax_config, multihost, output, signals
from cxr_gan.storage import files

STOPPED = 130  # exit code of a command stopped by Ctrl-C, as in a shell
Main = Callable[[Sequence[str], flags.FlagValues], int]
DefineFlags = Callable[[flags.FlagValues], None]


def command(example: str) -> Callable[[Callable[[flags.FlagValues], int]], Main]:
    """Makes a function of the flags, which returns an exit code, the main of a command.

    The main refuses arguments that are not flags, and shows how flags are written by
    the example. It prints an OSError, ValueError or ImportError in one line, without a
    traceback, and returns 1; after Ctrl-C it returns STOPPED.
    """

    def decorate(function: Callable[[flags.FlagValues], int]) -> Main:
        @functools.wraps(function)
        def main(argv: Sequence[str], values: flags.FlagValues) -> int:
            try:
                if argv[1:]:
                    raise ValueError(
                        f"unexpected argument {argv[1]!r}; flags are written "
                        f"{example}; see --help"
                    )
                with jax_config.pinned():
                    return function(values)
            except (OSError, ValueError, ImportError) as error:
                sys.stderr.write(f"error: {error}\n")
                return 1
            except KeyboardInterrupt:
                sys.stderr.write("error: stopped\n")
                return STOPPED

        return main

    return decorate


def run(main: Main, define_flags: DefineFlags) -> None:
    """Runs a command with the arguments of the process, and exits.

    INFO logs, where Orbax reports every step, are hidden; --verbosity=1 shows them.
    With --multihost, only the primary process runs the command.
    """
    output.tolerate_errors()
    define_flags(flags.FLAGS)
    app.call_after_init(_quiet_logging)

    def on_primary(argv: Sequence[str]) -> int:
        several = "multihost" in flags.FLAGS and flags.FLAGS.multihost
        return multihost.run_on_primary(lambda: main(argv, flags.FLAGS), several)

    with multihost.exit_all_on_error():
        try:
            app.run(on_primary)
        finally:
            signals.end_quietly()


def run_action(name: str, actions: Mapping[str, tuple[Main, DefineFlags]]) -> None:
    """Runs the command that the first argument names, with the others, and exits.

    Args:
        name: of the module, such as "edit".
        actions: first argument -> main and flags.
    """
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    if given in actions:
        del sys.argv[1]
        run(*actions[given])
        return
    is_help = given.lstrip("-") in ("help", "helpfull", "helpshort", "h", "?")
    usage = [f"python -m cxr_gan.{name} {action} --help" for action in actions]
    if is_help:
        sys.stdout.write("\n".join([sys.modules["__main__"].__doc__ or "", *usage, ""]))
    else:
        sys.stderr.write(
            f"error: the first argument must be {' or '.join(actions)}, not {given!r}; "
            f"see {' and '.join(usage)}\n"
        )
    sys.exit(0 if is_help else 1)


def _quiet_logging() -> None:
    if logging.get_verbosity() == logging.INFO:
        logging.set_verbosity(logging.WARNING)


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
