"""Times programs in interleaved runs, A B A B, each program in its own process.

All are pinned to the same cores. A run is called a turn in the tables and JSON files.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.baselines.settings import Settings

ROOT = pathlib.Path(__file__).parents[1]
SAMPLES = {1: 32, 16: 8, 256: 1}  # images per call: calls per run
Timing = dict[str, float]  # "wall" and "cpu": seconds; "rss": peak bytes so far


class Worker:
    """The process of one program; it is killed at the end of the `with` block."""

    def __init__(
        self, name: str, settings: Settings, cores: list[int], cache: pathlib.Path
    ):
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed at exit
        arguments = {
            "name": name,
            "settings": dataclasses.asdict(settings),
            "cores": cores,
            "begun": time.monotonic(),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(arguments)],
            cwd=ROOT,
            env=environment(cache),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def first_step(self) -> Timing:
        """Waits for the first training step; timed from the start of the process."""
        return self._answer()

    def do(self, **command: int) -> Timing:
        """train=steps, or sample=images per call and times=calls."""
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Timing:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            stderr = self._errors.read()[-2000:]
            raise RuntimeError(f"{self.name} ended before it answered:\n{stderr}")
        return json.loads(line)


def environment(cache: pathlib.Path) -> dict[str, str]:
    """Environment: CPU only, few log messages, compilation caches in this folder."""
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_COMPILATION_CACHE_DIR": str(cache / "xla"),
        "JAX_PLATFORMS": "cpu",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One table: these programs, this batch size, these cores."""

    names: tuple[str, ...]
    settings: Settings
    cores: tuple[int, ...]  # numbers of the cores
    repeats: int  # interleaved runs of each program
    sampling: bool  # whether sampling is timed too

    @property
    def work(self) -> int:
        """Number of calls of `done` in `run`."""
        sampling = (1 + self.repeats) * len(SAMPLES) if self.sampling else 0
        return len(self.names) * (2 + self.repeats + sampling)

    def run(self, done: Callable[[str], None]) -> dict[str, Any]:
        """Runs all programs; {name: {"cold": ..., "warm": ..., "turns": [...], ...}}.

        In a cold start nothing is compiled yet; the interleaved runs are timed in the
        warm process. Every program has its own compilation cache, because two variants
        of cxr_gan may compile the same function. Calls `done(what)` after each part.
        """
        results: dict[str, Any] = {name: {} for name in self.names}
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            cache = pathlib.Path(folder)
            for name in self.names:
                with self._start(name, cache) as worker:
                    results[name]["cold"] = worker.first_step()
                done(f"{name} started")
            workers = []
            for name in self.names:
                workers.append(stack.enter_context(self._start(name, cache)))
                results[name]["warm"] = workers[-1].first_step()
                # With the first step, one interval: so each run has one R1 penalty.
                workers[-1].do(train=self.settings.r1_interval - 1)
                done(f"{name} started again")
            for worker, timing in interleave(
                workers, self.repeats, train=self.settings.r1_interval
            ):
                results[worker.name].setdefault("turns", []).append(timing)
                done(f"{worker.name} trained")
            if self.sampling:
                self._sample(workers, results, done)
        return results

    def _start(self, name: str, cache: pathlib.Path) -> Worker:
        # The index, because PyTorch's compiler fails on paths with spaces.
        own_cache = cache / str(self.names.index(name))
        return Worker(name, self.settings, list(self.cores), own_cache)

    def _sample(
        self,
        workers: list[Worker],
        results: dict[str, Any],
        done: Callable[[str], None],
    ) -> None:
        for count, times in SAMPLES.items():
            for worker in workers:
                worker.do(sample=count, times=1)  # compiles
                done(f"{worker.name} sampled")
            for worker, timing in interleave(
                workers, self.repeats, sample=count, times=times
            ):
                sampling = results[worker.name].setdefault("sampling", {})
                sampling.setdefault(str(count), []).append(timing)
                done(f"{worker.name} sampled")


def interleave(
    workers: list[Worker], repeats: int, **command: int
) -> Iterator[tuple[Worker, Timing]]:
    """Yields the timings of all workers, in the order A B C A B C."""
    for _ in range(repeats):
        for worker in workers:
            yield worker, worker.do(**command)
