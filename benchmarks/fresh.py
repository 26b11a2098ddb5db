"""Measurements in a new process, which nothing earlier has influenced."""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]


def measure(module: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON in the last line of output of `python -m MODULE ARGUMENTS`.

    Raises:
        ChildProcessError: the process failed; with the end of its stderr.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(
            f"{module} {' '.join(arguments)}:\n{done.stderr[-2000:]}"
        )
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


def peak_memory() -> int:
    """Peak bytes of this process so far, including pages of mapped files."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def own_memory() -> int:
    """Bytes of anonymous memory of this process now: RssAnon in Linux."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return 1024 * int(line.split()[1])


class Clock:
    """Seconds since its creation or last reading: CPU time of all threads, and wall."""

    def __init__(self) -> None:
        self._start = time.process_time(), time.monotonic()

    def read(self) -> dict[str, float]:
        """{"cpu": seconds, "wall": seconds}; restarts the clock."""
        now = time.process_time(), time.monotonic()
        start, self._start = self._start, now
        return {"cpu": now[0] - start[0], "wall": now[1] - start[1]}
