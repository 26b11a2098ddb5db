"""Times programs in processes of their own, pinned to cores, in interleaved runs.

`Worker` starts this file as a process and sends it commands, one JSON object a line;
the process replies with timings. It imports `benchmarks` and `cxr_gan` from PYTHONPATH,
so it can run the code of another checkout. This file itself imports the standard
library only.
"""

import importlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
Timing = dict[str, float]  # "wall" and "cpu": seconds; "rss": peak bytes so far


class Worker:
    """The process of one program; it is killed at the end of the `with` block.

    Attributes:
        name: of the program, in results and error messages.
    """

    def __init__(
        self,
        name: str,
        entry: dict[str, Any],
        settings: dict[str, Any],
        cores: Sequence[int],
        cache: pathlib.Path,
    ):
        """entry and settings are `baselines.Entry` and `Settings` as dictionaries.

        Args:
            name: see above.
            entry: the program.
            settings: of the networks, losses and optimizer.
            cores: numbers of the cores to which the process is pinned.
            cache: folder of the process's own compilation caches.
        """
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed at exit
        checkout = entry["checkout"] or str(ROOT)
        arguments = {
            "entry": entry,
            "settings": settings,
            "cores": [*cores],
            "start": time.monotonic(),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, json.dumps(arguments)],
            cwd=checkout,
            env=environment(checkout, cache),
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
        return self._reply()

    def do(self, **command: int) -> Timing:
        """train=steps, or sample=images per call and times=calls."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> Timing:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            stderr = self._errors.read()[-2000:]
            raise ChildProcessError(f"{self.name} ended before it replied:\n{stderr}")
        timing: Timing = json.loads(line)
        return timing


def environment(checkout: str, cache: pathlib.Path) -> dict[str, str]:
    """Environment: CPU only, few log messages, code and compilation caches as given."""
    path = os.pathsep.join(filter(None, (checkout, os.environ.get("PYTHONPATH"))))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_COMPILATION_CACHE_DIR": str(cache / "xla"),
        "JAX_PLATFORMS": "cpu",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }


def interleave(
    workers: Sequence[Worker], repeats: int, **command: int
) -> Iterator[tuple[Worker, Timing]]:
    """Yields the timings of all workers, in the order A B C A B C."""
    for _ in range(repeats):
        for worker in workers:
            yield worker, worker.do(**command)


# The rest runs in the process of the program.


def clocks() -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process and its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        time.monotonic(),
        time.process_time() + children.ru_utime + children.ru_stime,
    )


def timing_since(wall: float, cpu: float) -> str:
    """Seconds since a reading of `clocks`, and the peak memory so far, as JSON."""
    now_wall, now_cpu = clocks()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    timing = {"wall": now_wall - wall, "cpu": now_cpu - cpu, "rss": kilobytes * 1024}
    return json.dumps(timing)


def build(entry: dict[str, Any], settings: dict[str, Any], cores: int) -> Any:
    """The program of an entry, a `baselines.settings.Baseline`."""
    if entry["checkout"]:
        return build_checkout(entry["checkout"], settings, cores)
    from benchmarks.baselines.settings import Settings

    module = importlib.import_module(f"benchmarks.baselines.{entry['module']}")
    return module.build(Settings(**settings), cores, **entry["options"])


def build_checkout(checkout: str, settings: dict[str, Any], cores: int) -> Any:
    """cxr_gan of another checkout, of version 0.2 or later.

    The checkout's own configuration applies, with the same batch size and resolution.

    Raises:
        ImportError: another cxr_gan than that of the checkout was imported.
    """
    ours = importlib.import_module("benchmarks.baselines.ours")
    published = importlib.import_module("benchmarks.baselines.published")
    config = published.benchmark_config(settings["batch_size"], settings["resolution"])
    program = ours.build(published.settings_of(config), cores)
    file = pathlib.Path(importlib.import_module("cxr_gan").__file__ or "")
    if not file.is_relative_to(checkout):
        raise ImportError(f"cxr_gan was imported from {file}, not from {checkout}")
    return program


def execute(program: Any, command: dict[str, int]) -> None:
    """Runs {"train": steps} or {"sample": images per call, "times": calls}."""
    if "train" in command:
        program.train(command["train"])
        return
    for _ in range(command["times"]):
        images = program.sample(command["sample"])
        if len(images) != command["sample"]:
            raise ValueError(f"{len(images)} images generated, not {command['sample']}")


def main() -> None:
    """Builds the program, runs one step, then runs commands until stdin closes.

    argv[1] is the JSON that `Worker` writes.
    """
    arguments = json.loads(sys.argv[1])
    cores = arguments["cores"]
    os.sched_setaffinity(0, cores)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that output of libraries does not reach stdout
    program = build(arguments["entry"], arguments["settings"], len(cores))
    program.train(1)
    print(timing_since(arguments["start"], 0.0), file=replies)
    for line in sys.stdin:
        start = clocks()
        execute(program, json.loads(line))
        print(timing_since(*start), file=replies)


if __name__ == "__main__":
    main()
