"""What a run tells while it runs: one line, metrics.jsonl, TensorBoard event files."""

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

from cxr_gan import disk

Figures = dict[str, float]


class NonFiniteError(FloatingPointError):
    """A figure of a step is no number any more; the state after it is worthless."""


def summarize(
    rounds: Sequence[dict[str, np.ndarray]], last: int, class_names: Sequence[str]
) -> Figures:
    """Means over consecutive steps up to `last`; a vector becomes a figure a class.

    Raises:
        NonFiniteError: naming the first step and figure that is NaN or infinite.
    """
    named = [dict(_by_class(metrics, class_names)) for metrics in rounds]
    for back, figures in zip(range(len(named) - 1, -1, -1), named, strict=True):
        bad = [key for key, value in figures.items() if not math.isfinite(value)]
        if figures["state/non_finite"] or bad:
            what = ", ".join(bad) or "a parameter"
            raise NonFiniteError(f"{what} became non-finite in step {last - back}")
    return {key: float(np.mean([f[key] for f in named])) for key in named[0]}


def require_finite(tree: Any, step: int) -> None:
    """Looks at all that is to be saved, on the host: also at what no figure shows.

    Adam's memory can overflow while weights and losses stay finite; what it belongs to
    would never learn again.

    Raises:
        NonFiniteError: naming the step.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)):
        raise NonFiniteError(f"a number of the state is non-finite by step {step}")


def _by_class(
    metrics: dict[str, np.ndarray], class_names: Sequence[str]
) -> Iterator[tuple[str, float]]:
    for key, value in metrics.items():
        if value.ndim == 0:
            yield key, float(value)
        else:
            stem = key.removesuffix("_by_class")
            for name, part in zip(class_names, value, strict=True):
                yield f"{stem}/{name}", float(part)


class Reporter:
    """Writes the figures of one run; going on at a step, it first cuts back to it.

    Raises, whenever it writes:
        disk.DiskError: naming the file, and what to do.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        self._lines = workdir / "metrics.jsonl"
        folder = workdir / "tensorboard"
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._events = folder / name
        cut_back(self._lines, step)
        with contextlib.ExitStack() as files:
            with disk.writing(self._lines):
                self._jsonl = self._lines.open("a", encoding="utf-8")
            files.enter_context(_closing(self._jsonl, self._lines))
            with disk.writing(self._events):
                folder.mkdir(exist_ok=True)
                stream = self._events.open("wb")
            files.enter_context(_closing(stream, self._events))
            self._records = RecordWriter(stream)
            self._record(file_version="brain.Event:2")
            # TensorBoard forgets what an earlier start wrote of this step and later.
            start = SessionLog(status=SessionLog.START)
            self._record(step=step + 1, session_log=start)
            self._files = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _record(self, **fields: Any) -> None:
        event = Event(wall_time=time.time(), **fields)
        with disk.writing(self._events):
            self._records.write(event.SerializeToString())
            self._records.flush()

    def write(self, step: int, kimg: float, figures: Figures) -> None:
        """One line of JSON, and one event with a scalar for each figure."""
        line = {"step": step, "kimg": round(kimg, 3), **figures}
        with disk.writing(self._lines):
            self._jsonl.write(json.dumps(line) + "\n")
            self._jsonl.flush()
        scalars = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()
        ]
        self._record(step=step, summary=Summary(value=scalars))


@contextlib.contextmanager
def _closing(file: IO[Any], path: pathlib.Path) -> Iterator[None]:
    """Closes a file; what it still holds back, a full disk refuses once more."""
    try:
        yield
    finally:
        with disk.writing(path):
            file.close()


def cut_back(path: pathlib.Path, step: int) -> None:
    """Drops the lines of metrics.jsonl beyond a step, and a half-written last one."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, TypeError, KeyError):  # a kill cut this one short
            continue
    with disk.whole(path) as unfinished:
        unfinished.write_text("".join(kept), encoding="utf-8")


class ProgressLine:
    """One line on stderr: rewritten in place on a terminal, one a report elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def show(self, kimg: float, total: float, figures: Figures) -> None:
        """Where the run stands: kimg of total, pace, time left, both losses, lead."""
        pace = figures["time/img_per_sec"]
        left = round(max(total - kimg, 0) * 1000 / pace)  # a last step may go beyond
        text = (
            f"{kimg:.1f}/{total:g} kimg  {pace:.0f} img/s  ETA {clock(left)}  "
            f"D {figures['d/adversarial']:.3f} G {figures['g/adversarial']:.3f}  "
            f"class {figures['d/class']:.2f} {figures['g/class']:.2f}  "
            f"lead {figures['d/lead']:.2f}"
        )
        self.say(text, over=self._live)

    def say(self, text: str, over: bool = False) -> None:
        """A line of its own, or one the next will be written over."""
        clear = "\r\x1b[K" if self._live else ""
        sys.stderr.write(clear + text + ("" if over else "\n"))
        sys.stderr.flush()


def clock(seconds: int) -> str:
    """3725 -> '1:02:05'."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
