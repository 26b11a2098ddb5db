"""Trains a GAN: python -m cxr_gan.main --config=configs/acgan.py --workdir=runs/acgan.

The same command resumes where it stopped. Every key of the configuration is a flag, as
--config.dataset=path/to/chest_xray. configs/acgan_128.py and acgan_256.py train larger
images; finetune.py starts from a trained model; quick.py is a first test of a minute or
two.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from cxr_gan import config as configs
from cxr_gan.runtime import config_files, multihost, output, signals
from cxr_gan.storage import files

_WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "Folder of the run: checkpoints, metrics.jsonl, tensorboard, grids; may be in a "
    "bucket, as gs://my-bucket/runs/a. Default: runs/ and the name of the "
    "configuration file.",
)
_MULTIHOST = flags.DEFINE_boolean("multihost", False, multihost.FLAG_HELP)
_CONFIG_HELP = "File with get_config(); configs/NAME.py may be one of the package."


def main(argv: Sequence[str]) -> None:
    """Checks everything, trains, and says how to continue."""
    if len(argv) > 1:
        fail(f"unexpected argument {argv[1]!r}; flags are written --workdir=runs/acgan")
    logging.set_verbosity(logging.WARNING)  # Orbax logs every thread at INFO
    from cxr_gan.runtime import cpu
    from cxr_gan.storage import checkpoint, gcs_mirror, lock
    from cxr_gan.training import metric_writer
    from cxr_gan.training.train import SetupError, train

    cpu.set_xla_cpu_flags()
    if _MULTIHOST.value:
        try:
            multihost.initialize()
        except ValueError as error:
            fail(str(error))
    expected = (SetupError, multihost.PeerError, lock.InUseError)
    try:
        train(flags.FLAGS.config, _WORKDIR.value)
    except (*expected, checkpoint.CheckpointError, gcs_mirror.BucketError) as error:
        fail(str(error))
    except files.DiskError as error:
        fail(f"{error}; the same command resumes from the last checkpoint")
    except metric_writer.NonFiniteError as error:
        fail(
            f"{error}; the checkpoints before it are intact. Resume from them with "
            "other noise by --config.on_nan=rollback and --config.max_rollbacks, or "
            "use a smaller --config.optimizer_d.learning_rate in another --workdir"
        )


def fail(message: str) -> NoReturn:
    """Ends the command with one message, no traceback, and exit code 1."""
    sys.exit(f"error: {message}")


def parse(argv: Sequence[str]) -> list[str]:
    """Parses flags as absl does, after checks for what absl answers with a traceback.

    The flag --config is defined here, not on import: its default is the configuration
    that the command line names, and the keys that follow become flags of their own.
    """
    try:
        arguments = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
        value, argv = take_config_flag(arguments)
        path, words = config_files.locate(value)
        config = config_files.read(path, *words)
        configs.check_keys(config)
        check_keys(argv[1:], [*configs.flatten(config)])
    except (ValueError, OSError, flags.Error) as error:
        fail(str(error))
    flags.set_default(_WORKDIR, f"runs/{path.stem}")
    config_flags.DEFINE_config_dict("config", config, _CONFIG_HELP, sys_argv=argv)
    flags.FLAGS["config"].default_as_str = f"'{path}'"  # instead of the whole content
    try:
        return flags.FLAGS(argv)
    except (flags.Error, ValueError) as error:  # --nomultihost=1 is a ValueError
        fail(f"{error}{example(str(error), config)}; --help lists the flags")


def take_config_flag(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The value of --config, by default the package's acgan.py, and what else is given.

    Raises:
        ValueError: --config is given twice, or without a file.
    """
    given, rest = [], []
    arguments = iter(argv)
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
    return given[0] if given else str(config_files.shipped("acgan.py")), rest


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
    # absl prints the docstring of __main__ and the flags of the module argv[0].
    if __name__ != "__main__":
        sys.modules["__main__"].__doc__, sys.argv[0] = __doc__, __name__
    output.tolerate_errors()
    with multihost.exit_all_on_error():
        try:
            app.run(main, flags_parser=parse)
        except KeyboardInterrupt:  # before the loop handles it, or the second time
            fail("stopped at once; the same command resumes from the last checkpoint")
        finally:
            signals.end_quietly()


if __name__ == "__main__":
    cli()
