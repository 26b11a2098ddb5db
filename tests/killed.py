"""Runs `python -m cxr_gan.main` repeatedly, each time in a process that can be killed.

Importing JAX and TensorFlow takes longer than the runs that are killed here, so this
server imports them once and forks. It reads one job per line from stdin, as JSON:
    {"argv": flags of the command, "log": file for its stderr,
     "phase": see `install`, or null, "nth": 2, "delay": seconds, "by": "SIGKILL",
     "pipe": whether stderr is a pipe}
The child process sends itself the signal `delay` seconds after it enters the phase for
the n-th time, whatever it does at that moment; a pipe is closed then, and the signal is
sent PIPE_DELAY seconds later. It writes to stdout "+save 1.25" where a
phase begins and "-save 1.5" where it ends (phase, time in seconds). The server adds
"ended STATUS", the status of waitpid.

The command differs from what a user types in two ways: every step and every checkpoint
is waited for, so that a kill hits it and not what follows; and validation uses few
images.
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

from cxr_gan.data import pipeline  # noqa: F401
from cxr_gan.storage import checkpoint
from cxr_gan.training import data_parallel, loop, snapshots, validation  # noqa: F401

KEYS = ("phase", "nth", "delay", "by", "pipe")  # of a job
PIPE_DELAY = 0.02  # seconds from the end of a pipe to the signal
VAL_IMAGES = 10  # of each class in a validation


class PhaseMarker:
    """Writes the begin and end of phases to stdout, and ends the process in one."""

    def __init__(self, phase: str | None, nth: int, delay: float, by: str, pipe: bool):
        self._phase, self._nth, self._delay = phase, nth, delay
        self._signal = getattr(signal, by)
        self._reader = open_pipe() if pipe else None
        self._entered: Counter[str] = Counter()

    def __call__(self, phase, function):
        """The function, marked as this phase."""

        def marked(*args, **kwargs):
            self._entered[phase] += 1
            self._write("+", phase)
            if phase == self._phase and self._entered[phase] == self._nth:
                threading.Thread(target=self._end, daemon=True).start()
            try:
                return function(*args, **kwargs)
            finally:
                self._write("-", phase)

        return marked

    def _write(self, sign, phase):
        os.write(1, f"{sign}{phase} {time.monotonic()}\n".encode())

    def _end(self):
        time.sleep(self._delay)
        if self._reader is not None:
            os.close(self._reader)
            time.sleep(PIPE_DELAY)
        for _ in range(2):  # as shells do
            os.kill(os.getpid(), self._signal)


def open_pipe() -> int:
    """Makes stderr a pipe; its end to read from."""
    read, write = os.pipe()
    os.dup2(write, 2)
    os.close(write)
    return read


def install(mark: PhaseMarker) -> None:
    """Marks the phases compile, step, save, sample and validate."""
    compile_step, save = data_parallel.compile_step, checkpoint.Checkpoints.save

    def compile_marked_step(*args):
        step = compile_step(*args)
        return mark("step", lambda *inputs: jax.block_until_ready(step(*inputs)))

    def save_and_wait(self, *args, **kwargs):
        save(self, *args, **kwargs)
        self.wait()

    data_parallel.compile_step = mark("compile", compile_marked_step)
    checkpoint.Checkpoints.save = mark("save", save_and_wait)
    snapshots.save_sample_grid = mark("sample", snapshots.save_sample_grid)
    snapshots.Validator.metrics = mark("validate", snapshots.Validator.metrics)
    validation.IMAGES_PER_CLASS = VAL_IMAGES
    validation.MIN_REAL_PER_CLASS = VAL_IMAGES
    validation.PAIRS = VAL_IMAGES


def run(job: dict) -> None:
    """Runs the command to its end, or until it kills itself."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    install(PhaseMarker(*(job[key] for key in KEYS)))
    sys.argv = ["cxr_gan.main", *job["argv"]]
    runpy.run_module("cxr_gan.main", run_name="__main__", alter_sys=True)


def main() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            run(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        os.write(1, f"ended {status}\n".encode())


if __name__ == "__main__":
    main()
