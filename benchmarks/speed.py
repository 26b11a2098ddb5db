"""Training and sampling speed, beside the same networks in PyTorch and Keras.

    pip install -e ".[bench]"
    python -m benchmarks.speed --out=speed.json
    python -m benchmarks.speed --against=../before --repeats=20 --starts=3

The second command compares with another checkout of cxr_gan, such as a git worktree.

Every program runs in a process of its own, pinned to the same cores. All are timed in
interleaved runs, A B A B. A run is r1_interval training steps, one of which has the R1
penalty. A ratio is taken from each pair of neighbouring runs; the table shows the
median and the quartiles. A comparison is a resolution, batch size and number of cores.
Sampling is compared at the default batch size.

--quick runs one short comparison, with PyTorch if it is installed.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from absl import flags

from benchmarks import command_line
from benchmarks.baselines import BASELINES, OURS, Entry, published
from benchmarks.baselines.settings import Settings
from benchmarks.worker import Timing, Worker, interleave
from cxr_gan import config as configs

SAMPLES = {1: 32, 16: 8, 256: 1}  # images per call: calls per run
CLOCKS = {"cpu": "CPU", "wall": "wall"}
LIBRARIES = {"jax": "jax", "torch": "torch", "keras": "tensorflow-cpu"}
Runs = dict[str, list[Timing]]  # of each program, in the order of time


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Programs with the same batch size, resolution and cores."""

    programs: dict[str, Entry]
    settings: Settings
    cores: tuple[int, ...]  # numbers of the cores
    repeats: int  # interleaved runs of each program
    starts: int  # cold starts of each program
    sampling: bool  # whether sampling is timed too

    def run(self, report: Callable[[str], None]) -> dict[str, Any]:
        """Runs all programs; `report` receives the name of each part before it starts.

        Returns:
            "images" of a training run, and "runs": "cold" and "warm" starts, "train",
            and "sample N" for each N of `SAMPLES`, each of them `Runs`. Cold starts
            have an empty compilation cache, warm ones that of a cold start. Interleaved
            runs are timed in the warm process.
        """
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            results: dict[str, Runs] = {"cold": self._runs()}
            for start, name in itertools.product(range(self.starts), self.programs):
                report(f"cold start of {name}")
                with self._worker(name, folder, start) as worker:
                    results["cold"][name].append(worker.first_step())
            workers, results["warm"] = [], self._runs()
            for name in self.programs:
                report(f"warm start of {name}")
                workers.append(stack.enter_context(self._worker(name, folder, 0)))
                results["warm"][name].append(workers[-1].first_step())
                # With the first step, one interval: so each run has one R1 penalty.
                workers[-1].do(train=self.settings.r1_interval - 1)
            report("training")
            results["train"] = self._interleave(
                workers, train=self.settings.r1_interval
            )
            for count, times in SAMPLES.items() if self.sampling else ():
                report(f"sampling, {count} images per call")
                for worker in workers:
                    worker.do(sample=count, times=1)  # compiles
                results[f"sample {count}"] = self._interleave(
                    workers, sample=count, times=times
                )
        images = self.settings.r1_interval * self.settings.batch_size
        return {"images": images, "runs": results}

    def _runs(self) -> Runs:
        return {name: [] for name in self.programs}

    def _worker(self, name: str, folder: str, start: int) -> Worker:
        # Two variants of cxr_gan may compile the same function, so no cache is shared.
        # Numbers, because PyTorch's compiler fails on paths with spaces.
        cache = pathlib.Path(folder, str(start), str([*self.programs].index(name)))
        entry = dataclasses.asdict(self.programs[name])
        settings = dataclasses.asdict(self.settings)
        return Worker(name, entry, settings, self.cores, cache)

    def _interleave(self, workers: list[Worker], **command: int) -> Runs:
        runs = self._runs()
        for worker, timing in interleave(workers, self.repeats, **command):
            runs[worker.name].append(timing)
        return runs


def select_programs(values: flags.FlagValues) -> dict[str, Entry]:
    """The programs of --baseline and --against, by name.

    Raises:
        ValueError: a library is missing, or --against is not a checkout.
    """
    names = values.baseline or [*BASELINES]
    if not values.baseline and values.against:
        names = [OURS]
    elif not values.baseline and values.quick:
        names = [name for name in (OURS, "PyTorch") if BASELINES[name].installed]
    for name in names:
        if not BASELINES[name].installed:
            raise ValueError(
                f"{name} needs {BASELINES[name].needs}, which is not installed: "
                "pip install -e '.[bench]', or choose programs with --baseline"
            )
    programs = {name: BASELINES[name] for name in names}
    if values.against:
        checkout = pathlib.Path(values.against).resolve()
        if not (checkout / "benchmarks").is_dir():
            raise ValueError(
                f"--against={values.against} has no folder benchmarks; give the root "
                "of a checkout of cxr_gan"
            )
        programs[str(values.against)] = Entry("ours", "jax", checkout=str(checkout))
    return programs


def comparisons(values: flags.FlagValues) -> dict[str, Comparison]:
    """The comparisons of these flags, by title.

    Raises:
        ValueError: too few cores, a missing library, or an invalid batch size.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("processes can only be pinned to cores on Linux; run it there")
    programs, selected = select_programs(values), {}
    cpus = sorted(os.sched_getaffinity(0))
    default = configs.published()
    requested = itertools.product(values.resolution, values.cores, values.batch)
    if values.quick:
        requested = iter([(default.resolution, 1, default.batch_size)])
    for resolution, cores, batch in requested:
        settings = published.settings_of(published.benchmark_config(batch, resolution))
        if cores > len(cpus):
            raise ValueError(f"--cores={cores}: this process may use {len(cpus)}")
        if batch % (settings.group_size * cores):
            raise ValueError(
                f"--batch={batch} on {cores} cores: give a multiple of "
                f"{settings.group_size * cores}, so each core gets complete groups of "
                f"{settings.group_size}"
            )
        title = f"{resolution} px, batch {batch}, {cores} core{'s' * (cores > 1)}"
        selected[title] = Comparison(
            programs=programs,
            settings=settings,
            cores=tuple(cpus[:cores]),
            repeats=3 if values.quick else values.repeats,
            starts=1 if values.quick else values.starts,
            sampling=batch == default.batch_size and not values.quick,
        )
    return selected


def ratio(other: list[Timing], own: list[Timing], clock: str) -> str:
    """Speed-up of cxr_gan, pair by pair: "median (first to third quartile)"."""
    pairs = [a[clock] / b[clock] for a, b in zip(other, own, strict=True)]
    first, median, third = np.percentile(pairs, (25, 50, 75))
    return f"{median:.3f} ({first:.3f} to {third:.3f})"


def run_table(title: str, images: int, runs: Runs) -> str:
    """Median speed of each program, or seconds if `images` is 0; ratios; memory."""
    unit = "images/s" if images else "s"
    head = [title, *(f"{unit}, {label}" for label in CLOCKS.values())]
    if OURS in runs:
        head += [f"{OURS} is faster by, {label}" for label in CLOCKS.values()]
    rows = []
    for name, timings in runs.items():
        row = [name]
        for clock in CLOCKS:
            seconds = np.median([timing[clock] for timing in timings])
            row.append(f"{images / seconds if images else seconds:.1f}")
        if OURS in runs:
            row += [ratio(timings, runs[OURS], clock) for clock in CLOCKS]
        rows.append([*row, f"{timings[-1]['rss'] / 1e6:.0f}"])
    return command_line.table([*head, "peak memory, MB"], rows)


def text(results: dict[str, dict[str, Any]]) -> str:
    """{title of a comparison: its results} -> Markdown."""
    parts = []
    for title, comparison in results.items():
        runs, images = comparison["runs"], comparison["images"]
        parts += [
            f"### {title}",
            run_table(f"training, runs of {images} images", images, runs["train"]),
            *(
                run_table(f"sampling, {n} per call", n * times, runs[f"sample {n}"])
                for n, times in SAMPLES.items()
                if f"sample {n}" in runs
            ),
            run_table("first step, nothing compiled", 0, runs["cold"]),
            run_table("first step, compiled before", 0, runs["warm"]),
        ]
    return "\n".join(parts)


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Runs the comparisons of the flags."""
    results = {}
    progress = tqdm.tqdm(comparisons(values).items(), disable=None)
    for title, comparison in progress:

        def report(part: str, title: str = title) -> None:
            progress.set_description(f"{title}: {part}")

        results[title] = comparison.run(report)
    needs = {entry.needs for entry in select_programs(values).values()}
    versions = command_line.circumstances(LIBRARIES[name] for name in sorted(needs))
    return {"about": versions, "comparisons": results}, text(results)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("against", None, "Root of another checkout to compare.", **own)
    flags.DEFINE_multi_enum(
        "baseline",
        None,
        list(BASELINES),
        "Program to compare; may be repeated. Default: all, or cxr_gan with --against.",
        **own,
    )
    flags.DEFINE_multi_integer(
        "batch", [16], "Images per step; may be repeated.", 1, **own
    )
    flags.DEFINE_multi_integer(
        "resolution", [64], "Pixels per side; may be repeated.", 32, **own
    )
    flags.DEFINE_multi_integer(
        "cores", [1, 2], "Cores each program is pinned to; may be repeated.", 1, **own
    )
    flags.DEFINE_integer("repeats", 5, "Interleaved runs of each program.", 5, **own)
    flags.DEFINE_integer("starts", 1, "Cold starts of each program.", 1, **own)
    flags.DEFINE_bool("quick", False, "Run one short comparison.", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
