"""One program in its own process, pinned to its cores; started by `contest.Worker`.

Reads commands from stdin and writes their timings to stdout, one JSON object per line.
"""

import importlib
import json
import os
import resource
import sys
import time

from benchmarks.baselines import BASELINES
from benchmarks.baselines.settings import Baseline, Settings


def clocks() -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process and its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        time.monotonic(),
        time.process_time() + children.ru_utime + children.ru_stime,
    )


def since(wall: float, cpu: float) -> str:
    """Seconds since a reading of `clocks`, and the peak memory so far, as JSON."""
    now_wall, now_cpu = clocks()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    timing = {"wall": now_wall - wall, "cpu": now_cpu - cpu, "rss": kilobytes * 1024}
    return json.dumps(timing)


def run(program: Baseline, command: dict[str, int]) -> None:
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

    argv[1] is JSON: name, settings, numbers of the cores, wall time of the start.
    """
    arguments = json.loads(sys.argv[1])
    entry = BASELINES[arguments["name"]]
    settings = Settings.from_json(arguments["settings"])
    cores = arguments["cores"][: entry.cores]
    os.sched_setaffinity(0, cores)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that output of libraries does not reach stdout
    module = importlib.import_module(f"benchmarks.baselines.{entry.module}")
    program = module.build(settings, len(cores), **entry.options)
    program.train(1)
    print(since(arguments["begun"], 0.0), file=replies)
    for line in sys.stdin:
        before = clocks()
        run(program, json.loads(line))
        print(since(*before), file=replies)


if __name__ == "__main__":
    main()
