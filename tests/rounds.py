"""Runs of a few rounds of `tiny.either_gan()`, and what they leave on disk."""

import json
import pathlib

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
