"""Phantoms as TFRecord, from a thousand to a million: time and memory of their batches.

Run by benchmarks.scaling, as python -m benchmarks.streams FOLDER. A thousand phantoms
are drawn; the others are these, moved by some pixels, each by others.
"""

import itertools
import json
import os
import pathlib
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm

from benchmarks import fresh, pages
from cxr_gan import data
from cxr_gan.data import phantom, tfrecord

COUNTS = (10**3, 10**4, 10**5, 10**6)
DRAWN, VAL = 1000, 200  # phantoms; the last of them are val
SIDE = 64
BATCH, BATCHES = 64, 200


def measure() -> dict[str, Any]:
    """Of each number of images, in a process of its own; files are deleted after."""
    images, labels = phantom.render_many(0, range(DRAWN), SIDE)
    found = {}
    for count in tqdm.tqdm(COUNTS, "sets", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            own, held = DRAWN - VAL, np.arange(DRAWN - VAL, DRAWN)
            clock = fresh.Clock()
            tfrecord.write(
                folder,
                phantom.CLASS_NAMES,
                moved(images[:own], labels[:own], count),
                ((images[i], int(labels[i]), f"val/{i}") for i in held),
            )
            written = clock.read()
            size = sum(path.stat().st_size for path in pathlib.Path(folder).iterdir())
            told = fresh.measure("benchmarks.streams", folder)
            found[str(count)] = {"size": size, "write": written, **told}
    return {
        "about": pages.circumstances(["tensorflow-cpu", "numpy"]),
        "own cores": len(os.sched_getaffinity(0)),
        "sets": found,
    }


def moved(
    images: np.ndarray, labels: np.ndarray, count: int
) -> Iterator[tfrecord.Example]:
    """`count` examples, no two of them the same pixels."""
    for index in range(count):
        which, shift = index % len(images), index // len(images)
        image = np.roll(images[which], divmod(shift, SIDE), (0, 1))
        yield image, int(labels[which]), f"train/{index}"


class Watch:
    """The most memory of its own this process had since; looked at every 20 ms."""

    def __init__(self) -> None:
        self.most = fresh.own_memory()
        self._done = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, fresh.own_memory())

    def end(self) -> int:
        """Bytes."""
        self._done.set()
        return max(self.most, fresh.own_memory())


def in_here(folder: str) -> dict[str, Any]:
    """What opening that folder takes in this process, and batches of it."""
    from cxr_gan.data import pipeline

    before, clock, watch = fresh.own_memory(), fresh.Clock(), Watch()
    dataset = data.load(f"tfrecord:{folder}", SIDE, split_seed=0)
    opened = clock.read()
    feed = pipeline.batches(
        dataset.train,
        num_classes=len(dataset.class_names),
        batch_size=BATCH,
        samples_per_class=(0,),
        seed=0,
    )
    next(feed)
    begun = clock.read()
    for _ in itertools.islice(feed, BATCHES):
        pass
    fed = {key: taken / BATCHES for key, taken in clock.read().items()}
    memory = {"before": before, "most": watch.end(), "after": fresh.own_memory()}
    return {"open": opened, "first": begun, "batch": fed, "memory": memory}


def text(figures: dict[str, Any]) -> str:
    """Markdown."""
    rows = []
    for count, found in figures["sets"].items():
        before, most, after = (
            found["memory"][key] / 1e6 for key in ("before", "most", "after")
        )
        rows.append(
            [
                f"{int(count):,}",
                f"{found['size'] / 1e6:,.0f}",
                f"{found['open']['cpu'] + found['first']['cpu']:.1f}",
                f"{1e3 * found['batch']['cpu']:.2f}",
                f"{BATCH / found['batch']['cpu']:,.0f}",
                f"{after - before:.0f}",
                f"{most - before:.0f}",
            ]
        )
    about = ", ".join(f"{k} {v}" for k, v in figures["about"].items())
    return (
        f"{SIDE} px, {figures['own cores']} of the cores; {about}.\n\n"
        + pages.table(
            [
                *("images", "on disk, MB", "CPU s to the first batch"),
                *(f"CPU ms a batch of {BATCH}", "images a CPU second"),
                *("memory after, MB", "at most, MB"),
            ],
            rows,
        )
    )


if __name__ == "__main__":
    print(json.dumps(in_here(sys.argv[1])))
