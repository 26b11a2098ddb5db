"""Trains: python -m cxr_gan.main --config=configs/acgan.py --workdir=runs/acgan.

The same command goes on where it stopped. Any key of the configuration can be given,
--config.dataset=path/to/chest_xray; --config must stand before them.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from cxr_gan import config as configs

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    str(configs.shipped("acgan.py")),
    "File with get_config().",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: checkpoints, metrics.jsonl, tensorboard, grids. Without it, "
    "runs/ and the name of the configuration file.",
)


def main(argv: Sequence[str]) -> None:
    """Checks everything, trains, says how to go on."""
    if len(argv) > 1:
        fail(f"{argv[1]!r} is no flag; flags look like --workdir=runs/acgan")
    logging.set_verbosity(logging.WARNING)  # Orbax tells of each of its threads
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    folder = pathlib.Path(_WORKDIR.value or f"runs/{name}")
    try:
        from cxr_gan import parallel, run

        parallel.keep_compilations()
        opened = run.open_run(_CONFIG.value, folder)
    except (ValueError, OSError) as error:
        fail(str(error))
    from cxr_gan import report, train

    try:
        message = train.train(opened)
    except report.NonFiniteError as error:
        fail(
            f"{error}; the checkpoints before it are whole. Try a smaller "
            "--config.optimizer_d.learning_rate in another --workdir"
        )
    report.ProgressLine().say(message)


def fail(message: str) -> None:
    """Ends the command with one message, no traceback, and code 1."""
    sys.exit(f"error: {message}")


def parse(argv: Sequence[str]) -> list[str]:
    """absl's parsing, after a look for what it would answer with a traceback."""
    argv = [resolve(argument) for argument in argv]
    try:
        complain(argv)
    except (ValueError, OSError) as error:
        fail(str(error))
    return app.parse_flags_with_usage(argv)


def resolve(argument: str) -> str:
    """--config=configs/x.py is the shipped file where the current folder has none."""
    flag, _, value = argument.partition("=")
    path = pathlib.Path(value.partition(":")[0])
    if flag.lstrip("-") != "config" or not value or path.exists():
        return argument
    known = path.parent.name in ("", "configs") and configs.shipped(path.name).exists()
    return f"{flag}={configs.shipped(path.name)}" if known else argument


def complain(argv: Sequence[str]) -> None:
    """Raises ValueError for a key no configuration has, with the one that was meant."""
    file = configs.shipped("acgan.py")
    for argument in argv[1:]:
        flag, _, value = argument.partition("=")
        name = flag.lstrip("-")
        if name == "config":
            file = pathlib.Path(value)
        key = name.removeprefix("no").removeprefix("config.").partition("[")[0]
        if name.removeprefix("no").startswith("config."):
            known = [*configs.flatten(configs.read(file))]
            if key not in known:
                raise ValueError(f"{flag}: no such key{configs.suggest(key, known)}")


def cli() -> None:
    """The command cxr-gan."""
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    cli()
