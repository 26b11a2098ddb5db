"""The command `python -m cxr_gan.main`, again and again, each in a process of its own
that may have to die.

Importing JAX and TensorFlow takes longer than the runs that are killed here, so this
server imports them once and forks. It reads one order a line from stdin, as JSON:
    {"argv": flags of the command, "log": file for what it says,
     "phase": see `install`, or null, "nth": 2, "delay": seconds}
The child kills itself by SIGKILL that long after it entered the phase for the n-th
time, whatever it is doing then. To stdout go its marks, "+save 1.25" where a phase
begins and "-save 1.5" where it ends, in seconds, and at last "ended STATUS", from
waitpid.

Two things differ from what a person types: a step and a checkpoint are waited for, so
that a kill meets them and not what comes after; and a look at val is at few images.
"""

import json
import os
import runpy
import signal
import sys
import threading
import time
from collections import Counter

import jax

from cxr_gan import checkpoint, looks, monitor, parallel, train  # noqa: F401
from cxr_gan.data import pipeline  # noqa: F401

FEW = 10  # images of a class in a look at val


class Marks:
    """Tells of phases on stdout, and dies in one of them if that was ordered."""

    def __init__(self, phase: str | None, nth: int, delay: float):
        self._phase, self._nth, self._delay = phase, nth, delay
        self._seen: Counter[str] = Counter()

    def __call__(self, phase, function):
        """The same function, marked as that phase."""

        def marked(*arguments, **rest):
            self._seen[phase] += 1
            self._tell("+", phase)
            if phase == self._phase and self._seen[phase] == self._nth:
                threading.Thread(target=self._die, daemon=True).start()
            try:
                return function(*arguments, **rest)
            finally:
                self._tell("-", phase)

        return marked

    def _tell(self, sign, phase):
        os.write(1, f"{sign}{phase} {time.monotonic()}\n".encode())

    def _die(self):
        time.sleep(self._delay)
        os.kill(os.getpid(), signal.SIGKILL)


def install(marks: Marks) -> None:
    compile_step, save = parallel.compile_step, checkpoint.Checkpoints.save

    def compile_marked(*arguments):
        step = compile_step(*arguments)
        return marks("step", lambda *dealt: jax.block_until_ready(step(*dealt)))

    def save_whole(self, *arguments):
        save(self, *arguments)
        self.wait()

    parallel.compile_step = marks("compile", compile_marked)
    checkpoint.Checkpoints.save = marks("save", save_whole)
    looks.draw_grid = marks("draw", looks.draw_grid)
    looks.Exam.figures = marks("evaluate", looks.Exam.figures)
    monitor.PER_CLASS = monitor.LEAST_REAL = monitor.PAIRS = FEW


def play(order: dict) -> None:
    """The command, to its end or to the moment that was ordered."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    install(Marks(order["phase"], order["nth"], order["delay"]))
    sys.argv = ["cxr_gan.main", *order["argv"]]
    runpy.run_module("cxr_gan.main", run_name="__main__", alter_sys=True)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            play(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        os.write(1, f"ended {status}\n".encode())


if __name__ == "__main__":
    main()
