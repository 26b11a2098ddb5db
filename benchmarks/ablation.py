"""Effect of each part of the recipe on image quality: each part removed or replaced.

    python -m benchmarks.ablation --config.dataset=DIR --out=ablation.json

Trains every variant of `benchmarks/ablation_variants.py` and compares the results with
those of the configuration without changes. --config and its keys are those of
`cxr_gan.main`: --config=configs/quick.py is faster, and
--config.samples_per_class=100, measures few images. All variants get seed 0 first,
then all seed 1, so that a table of few seeds is available early. Finished runs are kept
in --workdir: the same command continues where it stopped, and several processes can
share the work, each on its own core:

    taskset -c 0 python -m benchmarks.ablation --config.dataset=DIR &
    taskset -c 1 python -m benchmarks.ablation --config.dataset=DIR
"""

import functools
import json
import math
import pathlib
import re
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm
from absl import flags
from ml_collections import ConfigDict

from benchmarks import command_line
from benchmarks.ablation_variants import DEFAULT, VARIANTS, apply_variant, register
from cxr_gan import config as configs
from cxr_gan import data
from cxr_gan.evaluation import image_sets
from cxr_gan.evaluation.metrics import feature_spaces
from cxr_gan.evaluation.pairwise_metrics import DISTANCES
from cxr_gan.models import pixel_range
from cxr_gan.runtime import cpu, process
from cxr_gan.sampling import sampler
from cxr_gan.storage import lock
from cxr_gan.training import experiment, loop, metric_writer

SPACES = ("cxr", "texture")
SCORED = ("fid/cxr", "fid/texture")
# Columns of the table: heading -> metric, and its format.
COLUMNS = {
    "FID, cxr": ("fid/cxr", ".2f"),
    "FID, texture": ("fid/texture", ".3f"),
    "KID, cxr": ("kid/cxr", ".4f"),
    "recall, cxr": ("recall/cxr", ".2f"),
    "coverage, cxr": ("coverage/cxr", ".2f"),
    "label accuracy": ("eval/label_accuracy", ".2f"),
    "MS-SSIM above val": ("eval/ms_ssim_excess", "+.3f"),
}
Metrics = dict[str, float]  # of one run; empty if a metric became NaN or infinite
Records = dict[str, list[Metrics]]  # variant -> its runs, by seed


@functools.cache
def real_features(
    dataset: str, resolution: int, split_seed: int
) -> tuple[int, dict[str, np.ndarray]]:
    """Images per class of half B, and their features in each space."""
    loaded = data.load(dataset, resolution, split_seed=split_seed)
    half = image_sets.split_reference(loaded).image_groups()["B"]
    classes = range(len(loaded.class_names))
    per_class = min(int(np.sum(half.labels == label)) for label in classes)
    images = half.images[half.select(classes, per_class, seed=0)]
    return per_class, {
        name: feature_spaces.open_space(name).extract(images) for name in SPACES
    }


def distances_to_half_b(
    params: sampler.GeneratorParams, config: configs.Config
) -> Metrics:
    """{"fid/cxr": ...}: every distance to half B, classes pooled, equal numbers."""
    per_class, real = real_features(
        config.dataset, config.resolution, config.split_seed
    )
    labels = np.repeat(np.arange(len(params.class_names)), per_class)
    generated = pixel_range.to_uint8(sampler.sample(params, labels, 0))
    metrics: Metrics = {}
    for space, features in real.items():
        own = feature_spaces.open_space(space).extract(generated)
        for distance in DISTANCES:
            names = [f"{name}/{space}" for name in distance.names]
            values = np.atleast_1d(distance.function(own, features)).tolist()
            metrics |= zip(names, values, strict=True)
    return metrics


def train_and_measure(config: ConfigDict, folder: pathlib.Path) -> Metrics:
    """Trains a run to its end; validation metrics, and distances to half B.

    Raises:
        lock.InUseError: another process trains the run.
        ValueError: the folder holds a run of another configuration, or val has too few
            images of a class.
    """
    path = folder / "ablation.json"
    run = experiment.open_run(config, folder)
    if path.exists():
        metrics: Metrics = json.loads(path.read_text(encoding="utf-8"))
        return metrics
    try:
        loop.train(run)
        params, meta = sampler.load_with_meta(folder)
        if not meta["metrics"]:
            raise ValueError("val has too few images of a class to measure runs by")
        metrics = meta["metrics"] | distances_to_half_b(params, run.config)
    except metric_writer.NonFiniteError:
        metrics = {}
    command_line.write_json(path, metrics)
    # The programs of a run take about 2,400 memory mappings. Linux allows a process
    # 65,530; beyond that it is killed without a Python error.
    jax.clear_caches()
    return metrics


def train_all(
    variants: Sequence[str], seeds: int, base: ConfigDict, workdir: pathlib.Path
) -> Iterator[tuple[str, Metrics]]:
    """Yields the metrics of each variant and seed, without those in other processes."""
    jobs = [(variant, seed) for seed in range(seeds) for variant in variants]
    for variant, seed in tqdm.tqdm(jobs, disable=None):
        config = apply_variant(variant, base)
        config.seed = seed
        slug = re.sub(r"[^a-z0-9]+", "_", variant.lower())
        try:
            yield variant, train_and_measure(config, workdir / slug / str(seed))
        except lock.InUseError:
            continue


class Effect(NamedTuple):
    """Mean log score of a variant minus that of the default."""

    variant: str
    mean: float  # above 0: worse than the default
    error: float  # standard error of the mean; 0 for the default

    @property
    def is_significant(self) -> bool:
        """Whether the mean is beyond two standard errors."""
        return abs(self.mean) > 2 * self.error > 0


def score(metrics: Metrics) -> float:
    """Logarithm of the geometric mean of both FIDs; lower is better."""
    return statistics.fmean(math.log(metrics[name]) for name in SCORED)


def effects(records: Records) -> list[Effect]:
    """The effect of every variant with a finite run, worst variant first.

    The standard error follows from the deviation over seeds, pooled over all variants.

    Raises:
        ValueError: no variant has two finite runs, or the default has none.
    """
    scores = {name: [score(m) for m in runs if m] for name, runs in records.items()}
    repeated = [values for values in scores.values() if len(values) > 1]
    default = scores.get(DEFAULT)
    if not repeated or not default:
        raise ValueError(
            f"the seed noise needs a variant with two finite runs, and {DEFAULT!r} "
            "one; train more seeds, or wait for the other processes"
        )
    squares = sum(statistics.variance(v) * (len(v) - 1) for v in repeated)
    deviation = math.sqrt(squares / sum(len(v) - 1 for v in repeated))
    result = []
    for variant, values in scores.items():
        if values:
            mean = statistics.fmean(values) - statistics.fmean(default)
            error = deviation * math.sqrt(1 / len(values) + 1 / len(default))
            result.append(Effect(variant, mean, error * (variant != DEFAULT)))
    return sorted(result, key=lambda effect: -effect.mean)


def table(records: Records) -> str:
    """A row for each variant: its effect, and means over its finite runs."""
    rows = []
    for effect in effects(records):
        runs = records[effect.variant]
        finite = [metrics for metrics in runs if metrics]
        bold = "**" * effect.is_significant
        row = [effect.variant, f"{bold}{100 * math.expm1(effect.mean):+.0f} %{bold}"]
        for key, form in COLUMNS.values():
            row.append(f"{statistics.fmean(m[key] for m in finite):{form}}")
        rows.append([*row, f"{len(finite)} of {len(runs)}"])
    for variant, runs in records.items():
        if not any(runs):
            rows.append([variant, *[""] * (len(COLUMNS) + 1), f"0 of {len(runs)}"])
    head = ["", "FIDs to the default", *COLUMNS, "finite runs"]
    return command_line.table(head, rows) + (
        "\nBold effects are larger than two standard errors of the seed noise.\n"
    )


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Trains what is missing."""
    variants = values.only or [*VARIANTS]
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown:
        hint = configs.suggest(unknown[0], [*VARIANTS])
        raise ValueError(f"--only={unknown[0]}: no such variant{hint}")
    base = values.config
    base.eval_kimg = base.eval_kimg or base.total_kimg  # the end is always validated
    configs.check(base)
    register()
    cpu.set_xla_cpu_flags()  # as cxr_gan.main does
    process.enable_compilation_cache()
    records: Records = {variant: [] for variant in variants}
    workdir = pathlib.Path(values.workdir)
    for variant, metrics in train_all(variants, values.seeds, base, workdir):
        records[variant].append(metrics)
    config = configs.to_json(configs.freeze(base))
    return {"config": config, "variants": records}, table(records)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    command_line.define_config(values)
    flags.DEFINE_string("workdir", "runs/ablation", "Folder of the runs.", **own)
    flags.DEFINE_list("only", [], "Variants, separated by commas. Default: all.", **own)
    flags.DEFINE_integer("seeds", 2, "Runs of each variant.", 2, **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
