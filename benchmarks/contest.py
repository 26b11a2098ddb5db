"""Contestants in turn, A B A B, each in a process of its own on the same cores."""

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

from benchmarks.rivals.rules import Rules

ROOT = pathlib.Path(__file__).parents[1]
SAMPLES = {1: 32, 16: 8, 256: 1}  # images a call: calls a turn
Took = dict[str, float]  # {"wall": s, "cpu": s}, and "rss": bytes at most so far


class Worker:
    """A contestant's process; ends with the `with`."""

    def __init__(self, name: str, rules: Rules, cores: list[int], cache: pathlib.Path):
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed at exit
        asked = {
            "name": name,
            "rules": dataclasses.asdict(rules),
            "cores": cores,
            "begun": time.monotonic(),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(asked)],
            cwd=ROOT,
            env=surroundings(cache),
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

    def first_step(self) -> Took:
        """Waits for it; counted from the start of the process."""
        return self._answer()

    def do(self, **order: int) -> Took:
        """play=rounds, or sample=images with times=calls."""
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Took:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-2000:]
            raise RuntimeError(f"{self.name} ended before it answered:\n{said}")
        return json.loads(line)


def surroundings(cache: pathlib.Path) -> dict[str, str]:
    """CPUs alone, few words, and compilations kept in a folder of this contest."""
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
class Contest:
    """One table: these contestants, this batch, these cores."""

    names: tuple[str, ...]
    rules: Rules
    cores: tuple[int, ...]  # their numbers
    rounds: int
    sampling: bool  # too

    @property
    def work(self) -> int:
        """How often `hold` says that something is done."""
        sampling = (1 + self.rounds) * len(SAMPLES) if self.sampling else 0
        return len(self.names) * (2 + self.rounds + sampling)

    def hold(self, done: Callable[[str], None]) -> dict[str, Any]:
        """{name: {"cold": .., "warm": .., "turns": [..], ..}}; calls `done(what)`.

        Cold, nothing is compiled yet; those who play on started warm. What each has
        compiled is its own: two of ours may ask for the same program.
        """
        found: dict[str, Any] = {name: {} for name in self.names}
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            cache = pathlib.Path(folder)
            for name in self.names:
                with self._start(name, cache) as worker:
                    found[name]["cold"] = worker.first_step()
                done(f"{name} started")
            workers = []
            for name in self.names:
                workers.append(stack.enter_context(self._start(name, cache)))
                found[name]["warm"] = workers[-1].first_step()
                workers[-1].do(play=self.rules.r1_every - 1)  # one R1 in each turn
                done(f"{name} started again")
            for worker, took in in_turn(workers, self.rounds, play=self.rules.r1_every):
                found[worker.name].setdefault("turns", []).append(took)
                done(f"{worker.name} trained")
            if self.sampling:
                self._sample(workers, found, done)
        return found

    def _start(self, name: str, cache: pathlib.Path) -> Worker:
        own = cache / str(self.names.index(name))  # PyTorch's compiler bears no space
        return Worker(name, self.rules, list(self.cores), own)

    def _sample(
        self, workers: list[Worker], found: dict[str, Any], done: Callable[[str], None]
    ) -> None:
        for count, times in SAMPLES.items():
            for worker in workers:
                worker.do(sample=count, times=1)  # compiles
                done(f"{worker.name} sampled")
            for worker, took in in_turn(
                workers, self.rounds, sample=count, times=times
            ):
                sampling = found[worker.name].setdefault("sampling", {})
                sampling.setdefault(str(count), []).append(took)
                done(f"{worker.name} sampled")


def in_turn(
    workers: list[Worker], rounds: int, **order: int
) -> Iterator[tuple[Worker, Took]]:
    """A B C A B C: each worker's every answer."""
    for _ in range(rounds):
        for worker in workers:
            yield worker, worker.do(**order)
