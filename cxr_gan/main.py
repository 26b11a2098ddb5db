"""Trains a GAN: python -m cxr_gan.main --config=configs/acgan.py --workdir=runs/acgan.

The same command resumes where it stopped. Every key of the configuration is a flag, as
--config.dataset=path/to/chest_xray. configs/acgan_128.py and acgan_256.py train larger
images; quick.py is a first test of a minute or two.
"""

import contextlib
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from cxr_gan import config as configs
from cxr_gan.runtime import config_files, multihost
from cxr_gan.storage import files

_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: checkpoints, metrics.jsonl, tensorboard, grids; may be in a "
    "bucket, as gs://my-bucket/runs/a. Default: runs/ and the name of the "
    "configuration file.",
)
_MULTIHOST = flags.DEFINE_boolean("multihost", False, multihost.FLAG_HELP)


def main(argv: Sequence[str]) -> None:
    """Checks everything, trains, and says how to continue."""
    if len(argv) > 1:
        fail(f"unexpected argument {argv[1]!r}; flags are written --workdir=runs/acgan")
    logging.set_verbosity(logging.WARNING)  # Orbax logs every thread at INFO
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = _WORKDIR.value or f"runs/{name}"
    with contextlib.ExitStack() as stack:
        try:
            from cxr_gan.runtime import cpu, process
            from cxr_gan.runtime.workdir import open_workdir
            from cxr_gan.training import experiment

            cpu.set_xla_cpu_flags()
            if _MULTIHOST.value:
                multihost.initialize()
            process.enable_compilation_cache()
            process.tune_malloc()
            folder = stack.enter_context(open_workdir(workdir))
            run = experiment.open_run(flags.FLAGS.config, folder)
        except (ValueError, OSError) as error:
            fail(str(error))
        from cxr_gan.storage import checkpoint, gcs_mirror, lock
        from cxr_gan.training import loop, metric_writer

        expected = (checkpoint.CheckpointError, multihost.PeerError, lock.InUseError)
        try:
            message = loop.train(run)
            stack.close()  # a bucket holds all of the run before it is called saved
        except (*expected, gcs_mirror.BucketError) as error:
            fail(str(error))
        except files.DiskError as error:
            fail(f"{error}; the same command resumes from the last checkpoint")
        except metric_writer.NonFiniteError as error:
            fail(
                f"{error}; the checkpoints before it are intact. Resume from them with "
                "other noise by --config.on_nan=rollback and --config.max_rollbacks, "
                "or use a smaller --config.optimizer_d.learning_rate in another "
                "--workdir"
            )
    if multihost.is_primary():
        metric_writer.ProgressLine().write(message)


def fail(message: str) -> NoReturn:
    """Ends the command with one message, no traceback, and exit code 1."""
    sys.exit(f"error: {message}")


def parse(argv: Sequence[str]) -> list[str]:
    """Parses flags as absl does, after checks for what absl answers with a traceback.

    The flag --config is defined here, not on import: ml_collections looks for the keys
    that follow it as soon as it is defined.
    """
    try:
        arguments = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
        argv = move_config_first(arguments)
        config = read_config(argv[1])
        configs.check_keys(config)
        check_keys(argv[2:], [*configs.flatten(config)])
    except (ValueError, OSError, flags.Error) as error:
        fail(str(error))
    config_flags.DEFINE_config_file(
        "config",
        str(config_files.shipped("acgan.py")),
        "File with get_config(); configs/NAME.py also finds the files of the package.",
        lock_config=True,
        sys_argv=argv,
    )
    try:
        return flags.FLAGS(argv)
    except (flags.Error, ValueError) as error:  # --nomultihost=1 is a ValueError
        fail(f"{error}{example(str(error), config)}; --help lists the flags")


def move_config_first(argv: Sequence[str]) -> list[str]:
    """The same arguments with --config=FILE first; its keys are parsed only after it.

    Raises:
        ValueError: --config is given twice, or without a file.
    """
    given, rest = [], []
    arguments = iter(argv[1:])
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *arguments]
        elif flag in ("-config", "--config"):
            given.append(value if equals else next(arguments, ""))
        else:
            rest.append(argument)
    if len(given) > 1 or "" in given:
        raise ValueError(
            f"--config is given as {given}; give one file, as --config=configs/acgan.py"
        )
    file = resolve(given[0]) if given else str(config_files.shipped("acgan.py"))
    return [*argv[:1], f"--config={file}", *rest]


def resolve(value: str) -> str:
    """configs/x.py is the file of the package if the current folder has none."""
    file, colon, argument = value.partition(":")
    path = pathlib.Path(file)
    shipped = path.parent.name in ("", "configs") and config_files.shipped(path.name)
    if path.exists() or not shipped or not shipped.exists():
        return value
    return f"{shipped}{colon}{argument}"


def read_config(argument: str) -> ConfigDict:
    """The configuration that --config=FILE or --config=FILE:ARGUMENT names."""
    file, colon, word = argument.removeprefix("--config=").partition(":")
    return config_files.read(pathlib.Path(file), *([word] if colon else []))


def check_keys(arguments: Sequence[str], known: Sequence[str]) -> None:
    """Raises ValueError for an unknown key, with the key that was probably meant."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        name = flag.lstrip("-").removeprefix("no")
        key = name.removeprefix("config.").partition("[")[0]
        if flag.startswith("-") and name.startswith("config.") and key not in known:
            raise ValueError(f"{flag}: no such key{configs.suggest(key, known)}")


def example(message: str, config: ConfigDict) -> str:
    """'; give int, as 64' for an error about the value of one key."""
    for key, value in configs.flatten(config).items():
        if f"--config.{key}=" in message:
            return f"; give {type(value).__name__}, as {value!r}"
    return ""


def cli() -> None:
    """The command cxr-gan."""
    with multihost.exit_all_on_error():
        try:
            app.run(main, flags_parser=parse)
        except KeyboardInterrupt:  # before the loop handles it, or the second time
            fail("stopped at once; the same command resumes from the last checkpoint")


if __name__ == "__main__":
    cli()
