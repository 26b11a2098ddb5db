r"""Asks whether images that a model was trained on project better than others.

    python -m benchmarks.projection --model=pediatric64 \
      --dataset=path/to/chest_xray --out=projection.json

As many images of each class are drawn from train as from val, of different patients,
and projected into the latents of the model. If the generator had memorised patients,
training images would leave a smaller difference: the AUROC of the difference would be
above 0.5. The time is that of 16 images, after compilation.
"""

import time
from typing import Any

import numpy as np
import tqdm
from absl import flags

from benchmarks import command_line
from cxr_gan import data
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.utility import auroc
from cxr_gan.runtime import cpu, process
from cxr_gan.sampling import projection, sampler
from cxr_gan.sampling.sampler import GeneratorParams

BATCH = 16
DRAWS = 1000  # of the interval


def choose(group: ImageGroup, classes: int, count: int, seed: int) -> np.ndarray:
    """Rows of `count` random images of each class, each of another patient.

    Raises:
        ValueError: a class has too few patients.
    """
    order = np.random.default_rng(seed).permutation(len(group))
    _, first = np.unique(group.patients[order], return_index=True)
    rows = order[np.sort(first)]
    chosen = [rows[group.labels[rows] == label][:count] for label in range(classes)]
    fewest = min(map(len, chosen))
    if fewest < count:
        raise ValueError(f"a class has {fewest} patients; give a smaller --count")
    return np.concatenate(chosen)


def project(
    params: GeneratorParams, images: np.ndarray, labels: np.ndarray, steps: int
) -> tuple[np.ndarray, list[float]]:
    """The difference that each projection leaves, and the seconds of each batch."""
    errors, seconds = [], []
    start = projection.nearest_candidates(params, images, labels, seed=0)
    for first in tqdm.tqdm(range(0, len(images), BATCH), disable=None):
        rows = np.resize(np.arange(first, min(first + BATCH, len(images))), BATCH)
        begin = time.perf_counter()
        result = projection.project(
            params, images[rows], labels[rows], start[rows], steps=steps
        )
        seconds.append(time.perf_counter() - begin)
        errors.append(result.error[: len(images) - first])
    return np.concatenate(errors), seconds


def membership(trained: np.ndarray, held_out: np.ndarray) -> list[float]:
    """AUROC of "smaller difference means training image", and its 95 % interval.

    Each image is of a patient of its own; each set is resampled.
    """

    def value(trained: np.ndarray, held_out: np.ndarray) -> float:
        scores = -np.concatenate([trained, held_out])
        positive = np.arange(len(scores)) < len(trained)
        return auroc.auroc(scores, positive, np.ones((1, len(scores)))).item()

    rng = np.random.default_rng(0)
    drawn = [
        value(*(rng.choice(x, len(x)) for x in (trained, held_out)))
        for _ in range(DRAWS)
    ]
    return [value(trained, held_out), *np.quantile(drawn, (0.025, 0.975)).tolist()]


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Projects both sets."""
    cpu.set_xla_cpu_flags()  # as cxr_gan.main does
    process.enable_compilation_cache()
    params, meta = sampler.load_with_meta(values.model)
    size, split_seed = params.config.resolution, meta["config"]["split_seed"]
    dataset = data.load(values.dataset, size, split_seed=split_seed)
    if dataset.identity != meta["dataset"]["identity"]:
        raise ValueError(
            f"--dataset={values.dataset} is not the data set that {values.model} was "
            "trained on; give that one"
        )
    errors, seconds, by_class = {}, [], {}
    for name, images in (("train", dataset.train), ("val", dataset.val)):
        group = ImageGroup.from_image_set(images)
        rows = choose(group, len(params.class_names), values.count, 0)
        errors[name], spent = project(
            params, group.images[rows], group.labels[rows], values.steps
        )
        seconds += spent
    for label, class_name in enumerate(params.class_names):
        part = slice(label * values.count, (label + 1) * values.count)
        by_class[class_name] = membership(errors["train"][part], errors["val"][part])
    both = membership(errors["train"], errors["val"])
    results: dict[str, Any] = {
        "difference": {name: float(x.mean()) for name, x in errors.items()},
        "auroc": {"all classes": both, **by_class},
        "seconds of 16 images": float(np.median(seconds[1:])),
    }
    table = [
        [name, f"{value:.2f}", f"{low:.2f} to {high:.2f}"]
        for name, (value, low, high) in results["auroc"].items()
    ]
    text = command_line.table(["class", "AUROC", "95 % interval"], table)
    means = ", ".join(f"{k} {v:.4f}" for k, v in results["difference"].items())
    return results, f"{text}\nmean difference: {means}; {np.median(seconds[1:]):.0f} s"


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", "pediatric64", "Run or published model.", **own)
    flags.DEFINE_string("dataset", None, "The data set that it was trained on.", **own)
    flags.DEFINE_integer("count", 64, "Images of each class and split.", 16, **own)
    flags.DEFINE_integer("steps", 200, "Steps of each projection.", 1, **own)
    flags.mark_flag_as_required("dataset", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
