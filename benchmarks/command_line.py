"""Command line of every benchmark: prints a Markdown table, writes JSON to --out."""

import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from cxr_gan.runtime import config_files
from cxr_gan.storage import files

Results = dict[str, Any]


def run(
    benchmark: Callable[[flags.FlagValues], tuple[Results, str]],
    define_flags: Callable[[flags.FlagValues], None],
) -> None:
    """Defines the flags and --out, parses them, runs the benchmark and exits.

    `benchmark(flags)` returns its results, which JSON can hold, and Markdown of them.
    """
    define(define_flags, flags.FLAGS)
    for name in ("out", "config"):
        if name in flags.FLAGS:  # so that --help lists it with those of the benchmark
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    logging.set_verbosity(logging.WARNING)
    app.run(lambda argv: main(benchmark, argv, flags.FLAGS))


def define(
    define_flags: Callable[[flags.FlagValues], None], values: flags.FlagValues
) -> None:
    """Defines the flags of a benchmark and --out."""
    define_flags(values)
    flags.DEFINE_string("out", None, "JSON file to write.", flag_values=values)


def define_config(values: flags.FlagValues) -> None:
    """Defines --config and the flags of its keys, as for `cxr_gan.main`."""
    config_flags.DEFINE_config_file(
        "config",
        str(config_files.shipped("acgan.py")),
        "File with get_config(); --config.KEY=VALUE changes a key.",
        flag_values=values,
        lock_config=True,
    )


def main(
    benchmark: Callable[[flags.FlagValues], tuple[Results, str]],
    argv: Sequence[str],
    values: flags.FlagValues,
) -> int:
    """Runs a benchmark, prints its table and writes its results; the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        out = pathlib.Path(values.out) if values.out else None
        if out and out.suffix != ".json":
            raise ValueError(f"--out={out}: give a name that ends in .json")
        if out and out.exists():
            raise FileExistsError(f"{out} exists already; give another name")
        results, text = benchmark(values)
        print(text)
        if out:
            write_json(out, {"about": circumstances(), **results})
            print(f"wrote {out}")
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file atomically, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def circumstances(libraries: Iterable[str] = ("jax",)) -> Results:
    """Date, machine, load and library versions of a measurement."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),  # runnable processes, last minute
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in libraries},
    }


def processor() -> str:
    """The processor's name according to the system."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
