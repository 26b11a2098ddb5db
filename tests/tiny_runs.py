"""Runs of a few steps of `tiny.sgd_or_adam_gan()`, and what they leave on disk."""

import json
import pathlib

import chex

from cxr_gan.storage import checkpoint
from cxr_gan.training.experiment import Run

STEP_KIMG = 64 / 1000  # kimg in one step: the batch size of tests/tiny.py
SCHEDULE = {
    "total_kimg": 6 * STEP_KIMG,
    "log_kimg": 2 * STEP_KIMG,
    "sample_kimg": 3 * STEP_KIMG,
    "checkpoint_kimg": 2 * STEP_KIMG,
}


def checkpoint_steps(run: Run) -> list[int]:
    """Steps of the checkpoints on disk, ascending."""
    with checkpoint.Checkpoints(run.folder, read_only=True) as checkpoints:
        return checkpoints.steps()


def metric_lines(folder: pathlib.Path) -> list[dict]:
    """The lines of metrics.jsonl."""
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def without_times(lines: list[dict]) -> list[dict]:
    """The lines without the time/ metrics: equal in two runs of the same steps."""
    return [
        {key: value for key, value in line.items() if not key.startswith("time/")}
        for line in lines
    ]


def restore(folder: pathlib.Path, step: int) -> dict:
    """The items of a checkpoint that hold arrays: {"state": ..., "ema": ...}."""
    item = checkpoint.ocp.args.StandardRestore()
    items = checkpoint.ocp.args.Composite(state=item, ema=item)
    with checkpoint.ocp.CheckpointManager(folder / "checkpoints") as manager:
        return dict(manager.restore(step, args=items))


def assert_same_result(folder: pathlib.Path, other: pathlib.Path, last: int) -> None:
    """Checks that checkpoint `last` and all metrics of two runs agree bit for bit."""
    chex.assert_trees_all_equal(restore(folder, last), restore(other, last))
    lines, other_lines = (without_times(metric_lines(w)) for w in (folder, other))
    assert lines == other_lines
