"""One run of an ablation: trained by the library's step, measured by its metrics."""

import time
from typing import Any

import numpy as np

from cxr_gan import data
from cxr_gan.evaluation import image_sets
from cxr_gan.evaluation.metrics import feature_spaces
from cxr_gan.evaluation.pairwise_metrics import DISTANCES
from cxr_gan.models import pixel_range
from cxr_gan.sampling import sampler
from cxr_gan.training import data_parallel, loop, restore, validation
from cxr_gan.training.experiment import Run

SPACES = ("cxr", "texture")


class RealReference:
    """The real images that every run is compared with; their features are kept."""

    def __init__(self, dataset: data.Dataset) -> None:
        """Raises ValueError if val has too few images of a class."""
        reference = validation.make_reference(dataset)
        if reference is None:
            raise ValueError("val has too few images of a class to measure runs by")
        self.dataset, self._reference = dataset, reference
        # Iterators of finished runs: kept, because closing one takes long.
        self.iterators: list[object] = []
        half = image_sets.split_reference(dataset).image_groups()["B"]
        classes = range(len(dataset.class_names))
        self.per_class = min(int(np.sum(half.labels == label)) for label in classes)
        selected = half.select(classes, self.per_class, seed=0)
        self._features = {
            name: feature_spaces.open_space(name).extract(half.images[selected])
            for name in SPACES
        }

    def validate(self, params: sampler.GeneratorParams) -> dict[str, float]:
        """Metrics against val, as during training: `validation.validation_metrics`."""
        labels = np.repeat(
            np.arange(len(params.class_names)), validation.IMAGES_PER_CLASS
        )
        generated = pixel_range.to_uint8(sampler.sample(params, labels, 0))
        return validation.validation_metrics(self._reference, generated, labels)

    def distances(self, params: sampler.GeneratorParams) -> dict[str, float]:
        """{"fid/cxr": ...}: every distance to half B, classes pooled, equal numbers."""
        labels = np.repeat(np.arange(len(params.class_names)), self.per_class)
        generated = pixel_range.to_uint8(sampler.sample(params, labels, 0))
        metrics: dict[str, float] = {}
        for space, real in self._features.items():
            features = feature_spaces.open_space(space).extract(generated)
            for distance in DISTANCES:
                values = distance.function(features, real)
                names = [f"{name}/{space}" for name in distance.names]
                metrics |= dict(zip(names, values, strict=True))
        return metrics


def train_and_measure(run: Run, reference: RealReference) -> dict[str, Any]:
    """Trains to the end, or until a parameter is NaN or infinite.

    Returns:
        "validations", [kimg, eval/kid] of each; "metrics" at the end; "cpu_seconds" of
        training. A run that became non-finite has "non_finite_at", in kimg, instead of
        the last two.
    """
    init_key, key = restore.make_keys(run.config.seed, 0)
    state = loop.init_train_state(run, init_key)
    step_fn, iterator = loop.compile_step_and_open_data(run, state, 0)
    reference.iterators.append(iterator)
    state, key = data_parallel.replicate((state, key))
    validations, seconds = [], 0.0
    for step in range(1, run.total_steps + 1):
        start = time.process_time()
        state, step_metrics = step_fn(state, data_parallel.shard(next(iterator)), key)
        non_finite = float(data_parallel.unreplicate(step_metrics["state/non_finite"]))
        seconds += time.process_time() - start
        if non_finite:
            return {"validations": validations, "non_finite_at": run.kimg(step)}
        if run.due(step, run.config.eval_kimg):
            params = sampler.GeneratorParams(
                data_parallel.unreplicate(state.ema), run.generator_config
            )
            metrics = reference.validate(params)
            validations.append([run.kimg(step), metrics[validation.BEST_METRIC]])
    metrics |= reference.distances(params)
    return {
        "validations": validations,
        "metrics": metrics,
        "cpu_seconds": round(seconds, 1),
    }
