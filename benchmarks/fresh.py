"""Something measured in a process of its own, where nothing was done before."""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]


def measure(module: str, *words: str, **environment: str) -> dict[str, Any]:
    """What `python -m MODULE WORDS` says in its last line, JSON.

    Raises:
        ChildProcessError: it failed; with what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(f"{module} {' '.join(words)}:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def peak_memory() -> int:
    """Bytes of this process at most so far, pages of mapped files included."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def own_memory() -> int:
    """Bytes of this process now that belong to no file: RssAnon of Linux."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return 1024 * int(line.split()[1])


class Clock:
    """Seconds since it was made or last read: {"cpu": of all threads, "wall": ..}."""

    def __init__(self) -> None:
        self._then = time.process_time(), time.monotonic()

    def read(self) -> dict[str, float]:
        """And begins anew."""
        now = time.process_time(), time.monotonic()
        then, self._then = self._then, now
        return {"cpu": now[0] - then[0], "wall": now[1] - then[1]}
