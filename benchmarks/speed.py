"""Training and sampling speed, compared with the same networks in other libraries.

    pip install -e ".[bench]"
    python -m benchmarks.speed --out=performance.md

All programs are timed in interleaved runs, A B A B, each in its own process on the same
cores. A run is r1_interval training steps, one of which has the R1 penalty; the tables
call it a turn. The tables are written into the page, and the timings of all runs into a
JSON file in the same folder. A comparison is one table: a resolution, batch size and
number of cores. Comparisons that a call does not run keep their results:

    python -m benchmarks.speed --out=performance.md --batch=16 --cores=1

--resolution=128 compares larger images.

--quick prints one comparison of few runs, with PyTorch if it is installed.
"""

import itertools
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import tqdm
from absl import app, flags

from benchmarks import pages, standings
from benchmarks.baselines import BASELINES, OURS
from benchmarks.contest import Comparison

MARK = "speed"
LIBRARIES = {"jax": "jax", "torch": "torch", "keras": "tensorflow-cpu"}


def comparisons(values: flags.FlagValues) -> dict[str, Comparison]:
    """The comparisons of these flags, by their name in the JSON file.

    Raises:
        ValueError: too few cores, a missing library, or an invalid batch size.
    """
    from benchmarks.baselines import published
    from cxr_gan import config as configs

    names = tuple(values.rival) if values.rival else tuple(BASELINES)
    if values.quick and not values.rival:
        names = tuple(n for n in (OURS, "PyTorch") if BASELINES[n].installed)
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("processes can only be pinned to cores on Linux; run it there")
    for name in names:
        if not BASELINES[name].installed:
            raise ValueError(
                f"{name} needs {BASELINES[name].needs}, which is not installed: "
                "pip install -e '.[bench]', or leave it out with --rival"
            )
    cpus = sorted(os.sched_getaffinity(0))
    default = configs.published()
    quick = [(default.resolution, 1, default.batch_size)]
    requested = itertools.product(values.resolution, values.cores, values.batch)
    selected = {}
    for resolution, cores, batch in quick if values.quick else requested:
        config = published.benchmark_config(batch, resolution)
        settings = published.settings_of(config)
        if cores > len(cpus):
            raise ValueError(f"--cores={cores}: this process may use {len(cpus)}")
        if batch % (settings.group_size * cores):
            raise ValueError(
                f"--batch={batch} on {cores} cores: give a multiple of "
                f"{settings.group_size * cores}, so each core gets complete groups of "
                f"{settings.group_size}"
            )
        usable = (n for n in names if BASELINES[n].supports(resolution, cores))
        title = f"{resolution} px, batch {batch}, {cores} core{'s' * (cores > 1)}"
        selected[title] = Comparison(
            names=tuple(usable),
            settings=settings,
            cores=tuple(cpus[:cores]),
            repeats=3 if values.quick else values.rounds,
            sampling=batch == default.batch_size and not values.quick,
        )
    return selected


def run(selected: dict[str, Comparison]) -> Iterator[dict[str, Any]]:
    """Runs comparisons one after the other; yields all results so far after each."""
    results: dict[str, Any] = {}
    with tqdm.tqdm(total=sum(c.work for c in selected.values()), disable=None) as bar:
        for name, comparison in selected.items():

            def done(what: str, name: str = name) -> None:
                bar.set_description(f"{name}: {what}")
                bar.update()

            needs = {BASELINES[program].needs for program in comparison.names}
            results[name] = {
                "about": pages.circumstances([LIBRARIES[n] for n in sorted(needs)]),
                "images": comparison.settings.r1_interval
                * comparison.settings.batch_size,
                "found": comparison.run(done),
            }
            yield results


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Runs the comparisons; returns the exit code."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; see --help")
    if bool(values.out) == values.quick:
        raise app.UsageError(
            "give either a page to write to, --out=performance.md, or --quick"
        )
    try:
        out = pathlib.Path(values.out) if values.out else None
        earlier = pages.earlier(out, MARK) if out else {}
        selected = comparisons(values)
    except (ValueError, FileNotFoundError) as error:
        raise app.UsageError(str(error)) from error
    for results in run(selected):
        if out:
            pages.write(out, {**earlier, **results}, MARK, standings.text)
            print(f"wrote {out} and {pages.file_of(out, MARK)}")
        else:
            print(standings.text(results))
    return 0


def define(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags."""
    own = {"flag_values": values}
    flags.DEFINE_string("out", None, "Page to write the tables into.", **own)
    flags.DEFINE_multi_integer(
        "batch", [16, 64], "Images per step; may be repeated.", 1, **own
    )
    flags.DEFINE_multi_integer(
        "resolution", [64], "Pixels per side; may be repeated.", 32, **own
    )
    flags.DEFINE_multi_integer(
        "cores", [1, 2], "Cores each program is pinned to; may be repeated.", 1, **own
    )
    flags.DEFINE_multi_enum(
        "rival",
        None,
        list(BASELINES),
        "Program to compare; may be repeated. Default: all.",
        **own,
    )
    flags.DEFINE_integer("rounds", 5, "Interleaved runs of each program.", 5, **own)
    flags.DEFINE_bool("quick", False, "Run one short comparison and print it.", **own)


def cli() -> None:
    """Entry point of the command line."""
    define()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
