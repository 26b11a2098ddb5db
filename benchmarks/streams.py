"""Time and memory of batches from prepared sets of a thousand to a million phantoms.

Run by benchmarks.scaling, as python -m benchmarks.streams FOLDER. A thousand phantoms
are rendered; the others are shifted copies, each with a different shift.
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
from cxr_gan.data.dataset import ImageSet
from cxr_gan.data.formats import prepared
from cxr_gan.data.phantom import renderer

COUNTS = (10**3, 10**4, 10**5, 10**6)
RENDERED, VAL = 1000, 200  # phantoms; the last VAL of them are val
SIDE = 64
BATCH, BATCHES = 64, 200


def measure() -> dict[str, Any]:
    """Results for each number of images, each in its own process; deletes the files."""
    images, labels = renderer.render_many(0, range(RENDERED), SIDE)
    sets = {}
    for count in tqdm.tqdm(COUNTS, "sets", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            clock, peak = fresh.Clock(), PeakMemory()
            prepared.write(folder, renderer.CLASS_NAMES, chunks(images, labels, count))
            write = {**clock.read(), "memory": peak.end() - peak.before}
            size = sum(path.stat().st_size for path in pathlib.Path(folder).iterdir())
            result = fresh.measure("benchmarks.streams", folder)
            sets[str(count)] = {"size": size, "write": write, **result}
    return {
        "about": pages.circumstances(["tensorflow-cpu", "numpy"]),
        "own cores": len(os.sched_getaffinity(0)),
        "sets": sets,
    }


def chunks(
    images: np.ndarray, labels: np.ndarray, count: int
) -> Iterator[tuple[str, ImageSet]]:
    """Yields `count` images of train, all different, then VAL images of val."""
    num_train = len(images) - VAL
    for shift in range(-(-count // num_train)):
        first = shift * num_train
        n = min(num_train, count - first)
        shifted = np.roll(images[:n], divmod(shift, SIDE), (1, 2))
        ids = tuple(f"train/{first + i}" for i in range(n))
        yield "train", ImageSet(shifted, labels[:n], ids)
    ids = tuple(f"val/{i}" for i in range(VAL))
    yield "val", ImageSet(images[num_train:], labels[num_train:], ids)


class PeakMemory:
    """Peak anonymous memory of this process since creation, sampled every 20 ms."""

    def __init__(self) -> None:
        self.peak = self.before = fresh.own_memory()
        self._done = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, fresh.own_memory())

    def end(self) -> int:
        """Stops sampling; returns bytes."""
        self._done.set()
        return max(self.peak, fresh.own_memory())


def measure_here(folder: str) -> dict[str, Any]:
    """Time and memory of opening a set and of its batches, in this process."""
    from cxr_gan.data import pipeline

    clock, peak = fresh.Clock(), PeakMemory()
    dataset = data.load(folder, SIDE, split_seed=0)
    opened = clock.read()
    iterator = pipeline.batches(
        dataset.train,
        num_classes=len(dataset.class_names),
        batch_size=BATCH,
        samples_per_class=(0,),
        seed=0,
    )
    next(iterator)
    first = clock.read()
    for _ in itertools.islice(iterator, BATCHES):
        pass
    batch = {key: seconds / BATCHES for key, seconds in clock.read().items()}
    memory = {"before": peak.before, "most": peak.end(), "after": fresh.own_memory()}
    return {"open": opened, "first": first, "batch": batch, "memory": memory}


def text(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = []
    for count, of_set in results["sets"].items():
        before, peak, after = (
            of_set["memory"][key] / 1e6 for key in ("before", "most", "after")
        )
        rows.append(
            [
                f"{int(count):,}",
                f"{of_set['size'] / 1e6:,.0f}",
                f"{of_set['write']['cpu']:.1f}",
                f"{of_set['write']['memory'] / 1e6:.0f}",
                f"{of_set['open']['cpu'] + of_set['first']['cpu']:.1f}",
                f"{1e3 * of_set['batch']['cpu']:.2f}",
                f"{BATCH / of_set['batch']['cpu']:,.0f}",
                f"{after - before:.0f}",
                f"{peak - before:.0f}",
            ]
        )
    about = ", ".join(f"{k} {v}" for k, v in results["about"].items())
    return f"{SIDE} px; cores used: {results['own cores']}; {about}.\n\n" + pages.table(
        [
            *("images", "size on disk, MB", "CPU s to write", "memory added, MB"),
            "CPU s to the first batch",
            *(f"CPU ms per batch of {BATCH}", "images per CPU second"),
            *("memory added, MB", "at its peak, MB"),
        ],
        rows,
    )


if __name__ == "__main__":
    print(json.dumps(measure_here(sys.argv[1])))
