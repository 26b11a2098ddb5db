"""Metrics of a running training: progress line, metrics.jsonl, TensorBoard events.

Events are written with TensorBoard's RecordWriter, not its EventFileWriter: that one
reports a full disk as an error of TensorFlow, and loses events at the end silently.
"""

import contextlib
import json
import math
import pathlib
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any, Self

import jax
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from cxr_gan.storage import files

Metrics = dict[str, float]


class NonFiniteError(FloatingPointError):
    """A metric or parameter is NaN or infinite; the state must be discarded."""


def mean_metrics(
    steps: Sequence[dict[str, np.ndarray]], last: int, class_names: Sequence[str]
) -> Metrics:
    """Means over consecutive steps that end with step `last`.

    A vector named KEY_by_class becomes one metric KEY/CLASS for each class.

    Raises:
        NonFiniteError: naming the first step and metric that is NaN or infinite.
    """
    named = [dict(_split_classes(metrics, class_names)) for metrics in steps]
    for back, metrics in zip(range(len(named) - 1, -1, -1), named, strict=True):
        bad = [key for key, value in metrics.items() if not math.isfinite(value)]
        if metrics["state/non_finite"] or bad:
            what = ", ".join(bad) or "a parameter"
            raise NonFiniteError(f"{what} became non-finite in step {last - back}")
    return {key: float(np.mean([m[key] for m in named])) for key in named[0]}


def require_finite(tree: Any, step: int) -> None:
    """Checks every array that is about to be saved, on the host.

    Adam's second moment can overflow while parameters and losses are finite; such a
    parameter would never change again.

    Raises:
        NonFiniteError: naming the step.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)):
        raise NonFiniteError(f"the training state is non-finite at step {step}")


def _split_classes(
    metrics: dict[str, np.ndarray], class_names: Sequence[str]
) -> Iterator[tuple[str, float]]:
    for key, value in metrics.items():
        if value.ndim == 0:
            yield key, float(value)
        else:
            stem = key.removesuffix("_by_class")
            for name, part in zip(class_names, value, strict=True):
                yield f"{stem}/{name}", float(part)


class MetricWriter:
    """Writes the metrics of one run; opened at a step, it removes later lines first.

    Raises, on every write:
        files.DiskError: naming the file, and what to do.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        self._lines = workdir / "metrics.jsonl"
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._events = workdir / "tensorboard" / name
        truncate_after(self._lines, step)
        with contextlib.ExitStack() as stack:
            self._jsonl = stack.enter_context(_open(self._lines, "ab"))
            self._records = RecordWriter(stack.enter_context(_open(self._events, "wb")))
            self._record(file_version="brain.Event:2")
            # TensorBoard drops the later events of earlier processes.
            start = SessionLog(status=SessionLog.START)
            self._record(step=step + 1, session_log=start)
            self._files = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _record(self, **fields: Any) -> None:
        event = Event(wall_time=time.time(), **fields)
        with files.translate_os_errors(self._events):
            self._records.write(event.SerializeToString())
            self._records.flush()

    def write(self, step: int, kimg: float, metrics: Metrics) -> None:
        """Writes one JSON line, and one event with a scalar for each metric."""
        line = {"step": step, "kimg": round(kimg, 3), **metrics}
        with files.translate_os_errors(self._lines):
            self._jsonl.write(f"{json.dumps(line)}\n".encode())
            self._jsonl.flush()
        scalars = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()
        ]
        self._record(step=step, summary=Summary(value=scalars))


@contextlib.contextmanager
def _open(path: pathlib.Path, mode: str) -> Iterator[IO[bytes]]:
    """Opens a file; closing it writes its buffer, which fails again on a full disk."""
    with files.translate_os_errors(path):
        path.parent.mkdir(exist_ok=True)
        with path.open(mode) as file:
            yield file


def truncate_after(path: pathlib.Path, step: int) -> None:
    """Removes the lines of metrics.jsonl after a step, and an incomplete last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, TypeError, KeyError):  # cut short by a kill
            continue
    with files.atomic_write(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")


class ProgressLine:
    """Progress on stderr: one line rewritten in place, else one line per report."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def update(self, kimg: float, total_kimg: float, metrics: Metrics) -> None:
        """Shows kimg of total, images/s, time left, losses and score gap."""
        speed = metrics["time/images_per_second"]
        # The last step can exceed total_kimg.
        seconds = round(max(total_kimg - kimg, 0) * 1000 / speed)
        text = (
            f"{kimg:.1f}/{total_kimg:g} kimg  {speed:.0f} img/s  "
            f"ETA {tqdm.format_interval(seconds)}  "
            f"D {metrics['d/adversarial']:.3f} G {metrics['g/adversarial']:.3f}  "
            f"class {metrics['d/class']:.2f} {metrics['g/class']:.2f}  "
            f"gap {metrics['d/score_gap']:.2f}"
        )
        self.write(text, overwrite=self._live)

    def write(self, text: str, overwrite: bool = False) -> None:
        """Writes a line; with overwrite, the next line replaces it."""
        clear = "\r\x1b[K" if self._live else ""
        sys.stderr.write(clear + text + ("" if overwrite else "\n"))
        sys.stderr.flush()
