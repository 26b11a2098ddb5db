"""A run of an ablation: trained by the library's own step, measured by its figures."""

import time
from typing import Any

import numpy as np

from cxr_gan import (
    data,
    evaluation,
    images,
    monitor,
    parallel,
    resume,
    sampling,
    train,
)
from cxr_gan.evaluation.comparisons import DISTANCES
from cxr_gan.metrics import features
from cxr_gan.run import Run

SPACES = ("cxr", "texture")


class Yard:
    """The real images every run is measured by, seen once."""

    def __init__(self, dataset: data.Dataset) -> None:
        """Raises ValueError where val has too few images of a class."""
        reference = monitor.reference_of(dataset)
        if reference is None:
            raise ValueError("val has too few images of a class to measure runs by")
        self.dataset, self._reference = dataset, reference
        self.feeds: list[object] = []  # they take long to end: with the process
        half = evaluation.divide(dataset).sides()["B"]
        classes = range(len(dataset.class_names))
        self.each = min(int(np.sum(half.labels == label)) for label in classes)
        chosen = half.pick(classes, self.each, seed=0)
        self._seen = {
            name: features.space(name).extract(half.images[chosen]) for name in SPACES
        }

    def look(self, params: sampling.GeneratorParams) -> dict[str, float]:
        """Figures beside val, as a run looks at them: see `monitor.figures`."""
        labels = np.repeat(np.arange(len(params.class_names)), monitor.PER_CLASS)
        drawn = images.to_uint8(sampling.sample(params, labels, 0))
        return monitor.figures(self._reference, drawn, labels)

    def measure(self, params: sampling.GeneratorParams) -> dict[str, float]:
        """{"fid/cxr": ..}: every distance to half B, classes pooled, equally many."""
        labels = np.repeat(np.arange(len(params.class_names)), self.each)
        drawn = images.to_uint8(sampling.sample(params, labels, 0))
        found: dict[str, float] = {}
        for space, real in self._seen.items():
            own = features.space(space).extract(drawn)
            for distance in DISTANCES:
                values = distance.function(own, real)
                names = [f"{name}/{space}" for name in distance.names]
                found |= dict(zip(names, values, strict=True))
        return found


def play(run: Run, yard: Yard) -> dict[str, Any]:
    """Trains to the end, or until a weight is none: looks, figures, CPU seconds."""
    of_weights, of_noise = resume.keys(run.config.seed, 0)
    state = train.fresh_state(run, of_weights)
    step, feed = train.open_step_and_feed(run, state, 0)
    yard.feeds.append(feed)
    state, key = parallel.replicate((state, of_noise))
    looks, seconds = [], 0.0
    for done in range(1, run.total_steps + 1):
        begun = time.process_time()
        state, metrics = step(state, parallel.shard(next(feed)), key)
        broken = float(parallel.unreplicate(metrics["state/non_finite"]))
        seconds += time.process_time() - begun
        if broken:
            return {"looks": looks, "broken_at": run.kimg(done)}
        if run.due(done, run.config.evaluate_kimg):
            params = sampling.GeneratorParams(parallel.unreplicate(state.ema), run.spec)
            figures = yard.look(params)
            looks.append([run.kimg(done), figures[monitor.BEST]])
    figures |= yard.measure(params)
    return {"looks": looks, "figures": figures, "cpu_seconds": round(seconds, 1)}
