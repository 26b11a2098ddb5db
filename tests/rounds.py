"""Runs of a few rounds of `tiny.either_gan()`, and what they leave on disk."""

import json
import pathlib

import chex

from cxr_gan import checkpoint
from cxr_gan.run import Run

ROUND = 64 / 1000  # kimg: the batches of tests/tiny.py
SCHEDULE = {  # in rounds
    "total_kimg": 6 * ROUND,
    "report_kimg": 2 * ROUND,
    "draw_kimg": 3 * ROUND,
    "save_kimg": 2 * ROUND,
}


def steps_of(run: Run) -> list[int]:
    """Of the checkpoints on disk."""
    with checkpoint.Checkpoints(run.folder, read_only=True) as checkpoints:
        return checkpoints.steps()


def lines(folder: pathlib.Path) -> list[dict]:
    """Of metrics.jsonl."""
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def without_time(lines: list[dict]) -> list[dict]:
    """What two runs of the same rounds have in common."""
    return [
        {key: value for key, value in line.items() if not key.startswith("time/")}
        for line in lines
    ]


def assert_same_end(folder: pathlib.Path, other: pathlib.Path, last: int) -> None:
    """Parameters, memories and mean, bit for bit, and every figure on the way."""
    ends = []
    for workdir in (folder, other):
        restore = checkpoint.ocp.args.StandardRestore()
        items = checkpoint.ocp.args.Composite(state=restore, ema=restore)
        with checkpoint.ocp.CheckpointManager(workdir / "checkpoints") as manager:
            ends.append(manager.restore(last, args=items))
    for item in ("state", "ema"):
        chex.assert_trees_all_equal(ends[0][item], ends[1][item])
    of_both = [without_time(lines(workdir)) for workdir in (folder, other)]
    assert of_both[0] == of_both[1]
