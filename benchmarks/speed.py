"""How fast cxr_gan trains and samples, beside the same networks written elsewhere.

    pip install -e ".[bench]"
    python -m benchmarks.speed --out=docs/performance.md

Everyone plays in turn, A B A B, each in a process of its own on the same cores. A turn
is as many steps as there are between two R1 penalties. The page gets the tables, a JSON
file beside it all turns; contests that are not asked for stay as they are:

    python -m benchmarks.speed --out=docs/performance.md --batch=16 --cores=1

--resolution=128 is a contest of larger images.

--quick takes one contest of few turns, with PyTorch where it is installed, and prints.
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
from benchmarks.contest import Contest
from benchmarks.rivals import OURS, RIVALS

MARK = "speed"
LIBRARIES = {"jax": "jax", "torch": "torch", "keras": "tensorflow-cpu"}


def contests(values: flags.FlagValues) -> dict[str, Contest]:
    """Those asked for, by the name they have in the JSON file.

    Raises:
        ValueError: a core, a library or a contestant is not there.
    """
    from benchmarks.rivals import published
    from cxr_gan import config as configs

    names = tuple(values.rival) if values.rival else tuple(RIVALS)
    if values.quick and not values.rival:
        names = tuple(n for n in (OURS, "PyTorch") if RIVALS[n].installed)
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError(
            "processes can be pinned to cores on Linux alone; run it there"
        )
    for name in names:
        if not RIVALS[name].installed:
            raise ValueError(
                f"{name} needs {RIVALS[name].needs}, which is not installed: "
                "pip install -e '.[bench]', or leave it out with --rival"
            )
    own = sorted(os.sched_getaffinity(0))
    default = configs.published()
    quick = [(default.resolution, 1, default.batch_size)]
    wanted = itertools.product(values.resolution, values.cores, values.batch)
    asked = {}
    for resolution, cores, batch in quick if values.quick else wanted:
        rules = published.rules_of(published.measured(batch, resolution))
        if cores > len(own):
            raise ValueError(f"--cores={cores}: this process may use {len(own)}")
        if batch % (rules.group * cores):
            raise ValueError(
                f"--batch={batch} on {cores} cores: give a multiple of "
                f"{rules.group * cores}, whole groups of {rules.group} on each core"
            )
        there = (n for n in names if RIVALS[n].plays(resolution, cores))
        title = f"{resolution} px, batch {batch}, {cores} core{'s' * (cores > 1)}"
        asked[title] = Contest(
            names=tuple(there),
            rules=rules,
            cores=tuple(own[:cores]),
            rounds=3 if values.quick else values.rounds,
            sampling=batch == default.batch_size and not values.quick,
        )
    return asked


def hold(asked: dict[str, Contest]) -> Iterator[dict[str, Any]]:
    """Holds them one after the other; after each, what has come of them so far."""
    held: dict[str, Any] = {}
    with tqdm.tqdm(total=sum(c.work for c in asked.values()), disable=None) as bar:
        for name, contest in asked.items():

            def done(what: str, name: str = name) -> None:
                bar.set_description(f"{name}: {what}")
                bar.update()

            needs = {RIVALS[rival].needs for rival in contest.names}
            held[name] = {
                "about": pages.circumstances([LIBRARIES[n] for n in sorted(needs)]),
                "images": contest.rules.r1_every * contest.rules.batch_size,
                "found": contest.hold(done),
            }
            yield held


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    if len(argv) > 1:
        raise app.UsageError(f"{argv[1]!r} is no flag; see --help")
    if bool(values.out) == values.quick:
        raise app.UsageError(
            "give a page to write to, --out=docs/performance.md, or else --quick"
        )
    try:
        out = pathlib.Path(values.out) if values.out else None
        earlier = pages.earlier(out, MARK) if out else {}
        asked = contests(values)
    except (ValueError, FileNotFoundError) as error:
        raise app.UsageError(str(error)) from error
    for held in hold(asked):
        if out:
            pages.write(out, {**earlier, **held}, MARK, standings.text)
            print(f"wrote {out} and {pages.file_of(out, MARK)}")
        else:
            print(standings.text(held))
    return 0


def define(values: flags.FlagValues = flags.FLAGS) -> None:
    """The flags of the command."""
    kept = {"flag_values": values}
    flags.DEFINE_string("out", None, "Page; figures beside it, JSON.", **kept)
    flags.DEFINE_multi_integer(
        "batch", [16, 64], "Images a step; may be repeated.", 1, **kept
    )
    flags.DEFINE_multi_integer(
        "resolution", [64], "Pixels a side; may be repeated.", 32, **kept
    )
    flags.DEFINE_multi_integer(
        "cores", [1, 2], "Cores everyone is pinned to; may be repeated.", 1, **kept
    )
    flags.DEFINE_multi_enum(
        "rival",
        None,
        list(RIVALS),
        "Contestant; may be repeated. Default: all.",
        **kept,
    )
    flags.DEFINE_integer("rounds", 5, "Turns of each contestant.", 5, **kept)
    flags.DEFINE_bool("quick", False, "One small contest, to see it work.", **kept)


def cli() -> None:
    """The command as typed in a terminal."""
    define()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
