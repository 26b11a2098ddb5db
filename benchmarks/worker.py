"""One contestant in a process of its own, on its cores: the far end of `contest`.

Reads orders from stdin and writes what they took to stdout, one JSON object a line.
"""

import importlib
import json
import os
import resource
import sys
import time

from benchmarks.rivals import RIVALS
from benchmarks.rivals.rules import Contestant, Rules


def clocks() -> tuple[float, float]:
    """Seconds by the wall and of all CPUs, those of ended children included."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        time.monotonic(),
        time.process_time() + children.ru_utime + children.ru_stime,
    )


def since(wall: float, cpu: float) -> str:
    """What has been taken since the clocks stood so, and the most memory so far."""
    now_wall, now_cpu = clocks()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = {"wall": now_wall - wall, "cpu": now_cpu - cpu, "rss": kilobytes * 1024}
    return json.dumps(took)


def obey(contestant: Contestant, order: dict[str, int]) -> None:
    """Does {"play": rounds}, or {"sample": images a time, "times": n}."""
    if "play" in order:
        contestant.play(order["play"])
        return
    for _ in range(order["times"]):
        drawn = contestant.sample(order["sample"])
        if len(drawn) != order["sample"]:
            raise ValueError(f"{len(drawn)} images were drawn of {order['sample']}")


def main() -> None:
    """argv[1]: {"name", "rules", "cores": their numbers, "begun": by the wall}."""
    asked = json.loads(sys.argv[1])
    entry, rules = RIVALS[asked["name"]], Rules.from_json(asked["rules"])
    cores = asked["cores"][: entry.cores]
    os.sched_setaffinity(0, cores)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print is no answer
    module = importlib.import_module(f"benchmarks.rivals.{entry.module}")
    contestant = module.build(rules, len(cores), **entry.options)
    contestant.play(1)
    print(since(asked["begun"], 0.0), file=answers)
    for line in sys.stdin:
        before = clocks()
        obey(contestant, json.loads(line))
        print(since(*before), file=answers)


if __name__ == "__main__":
    main()
