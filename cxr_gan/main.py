"""Trains: python -m cxr_gan.main --config=configs/acgan.py --workdir=runs/acgan.

The same command goes on where it stopped. Any key of the configuration can be given,
as --config.dataset=path/to/chest_xray. configs/acgan_128.py and acgan_256.py draw
larger images; quick.py is a first look.
"""

import contextlib
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from cxr_gan import config as configs
from cxr_gan import disk, hosts

_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: checkpoints, metrics.jsonl, tensorboard, grids; may be in a "
    "bucket, as gs://my-bucket/runs/a. Without it, runs/ and the name of the "
    "configuration file.",
)
_MULTIHOST = flags.DEFINE_boolean("multihost", False, hosts.FLAG)


def main(argv: Sequence[str]) -> None:
    """Checks everything, trains, says how to go on."""
    if len(argv) > 1:
        fail(f"{argv[1]!r} is no flag; flags look like --workdir=runs/acgan")
    logging.set_verbosity(logging.WARNING)  # Orbax tells of each of its threads
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = _WORKDIR.value or f"runs/{name}"
    with contextlib.ExitStack() as held:
        try:
            from cxr_gan import bucket, parallel, run
            from cxr_gan.models import backend

            backend.ask_compiler()
            if _MULTIHOST.value:
                hosts.join()
            parallel.keep_compilations()
            parallel.keep_memory()
            folder = held.enter_context(bucket.workdir(workdir))
            opened = run.open_run(flags.FLAGS.config, folder)
        except (ValueError, OSError) as error:
            fail(str(error))
        from cxr_gan import checkpoint, lock, report, train

        wrong = (checkpoint.CheckpointError, hosts.PeerError, lock.InUseError)
        try:
            message = train.train(opened)
            held.close()  # a bucket has all of the run before it is said to be saved
        except (*wrong, bucket.BucketError) as error:
            fail(str(error))
        except disk.DiskError as error:
            fail(f"{error}, and the same command goes on from the last checkpoint")
        except report.NonFiniteError as error:
            fail(
                f"{error}; the checkpoints before it are whole. Go on from them with "
                "other noise, by --config.on_nan=rollback and --config.rollbacks, or "
                "try a smaller --config.optimizer_d.learning_rate in another --workdir"
            )
    if hosts.first():
        report.ProgressLine().say(message)


def fail(message: str) -> NoReturn:
    """Ends the command with one message, no traceback, and code 1."""
    sys.exit(f"error: {message}")


def parse(argv: Sequence[str]) -> list[str]:
    """absl's parsing, after a look for what it would answer with a traceback.

    The flag --config is made here, not on import: ml_collections looks for the keys
    that follow it as soon as it is made.
    """
    try:
        argv = arrange(flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False))
        config = read(argv[1])
        complain(argv[2:], [*configs.flatten(config)])
    except (ValueError, OSError, flags.Error) as error:
        fail(str(error))
    config_flags.DEFINE_config_file(
        "config",
        str(configs.shipped("acgan.py")),
        "File with get_config(); configs/NAME.py is also one that came with cxr_gan.",
        lock_config=True,
        sys_argv=argv,
    )
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        fail(f"{error}{example(str(error), config)}; --help lists the flags")


def arrange(argv: Sequence[str]) -> list[str]:
    """The same arguments, --config=FILE first: its keys can be parsed only after it.

    Raises:
        ValueError: it stands there twice, or without a file.
    """
    files, rest = [], []
    arguments = iter(argv[1:])
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *arguments]
        elif flag in ("-config", "--config"):
            files.append(value if equals else next(arguments, ""))
        else:
            rest.append(argument)
    if len(files) > 1 or "" in files:
        raise ValueError(
            f"--config is given as {files}; give one file, as --config=configs/acgan.py"
        )
    file = resolve(files[0]) if files else str(configs.shipped("acgan.py"))
    return [*argv[:1], f"--config={file}", *rest]


def resolve(value: str) -> str:
    """configs/x.py is the shipped file where the current folder has none."""
    file, colon, word = value.partition(":")
    path = pathlib.Path(file)
    known = path.parent.name in ("", "configs") and configs.shipped(path.name).exists()
    if path.exists() or not known:
        return value
    return f"{configs.shipped(path.name)}{colon}{word}"


def read(argument: str) -> ConfigDict:
    """The configuration --config=FILE or --config=FILE:WORD names."""
    file, colon, word = argument.removeprefix("--config=").partition(":")
    return configs.read(pathlib.Path(file), *([word] if colon else []))


def complain(arguments: Sequence[str], known: Sequence[str]) -> None:
    """Raises ValueError for a key that is not known, with the one that was meant."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        name = flag.lstrip("-").removeprefix("no")
        key = name.removeprefix("config.").partition("[")[0]
        if flag.startswith("-") and name.startswith("config.") and key not in known:
            raise ValueError(f"{flag}: no such key{configs.suggest(key, known)}")


def example(complaint: str, config: ConfigDict) -> str:
    """'; give int, as 64' for a complaint about the value of one key."""
    for key, value in configs.flatten(config).items():
        if f"--config.{key}=" in complaint:
            return f"; give {type(value).__name__}, as {value!r}"
    return ""


def cli() -> None:
    """The command cxr-gan."""
    with hosts.ending():
        try:
            app.run(main, flags_parser=parse)
        except KeyboardInterrupt:  # before the loop listens, or for the second time
            fail("stopped at once; the same command goes on from the last checkpoint")


if __name__ == "__main__":
    cli()
