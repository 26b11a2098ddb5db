r"""Measures what a start from a trained model of 64 px saves at 128 px.

    python -m benchmarks.growth --dataset=path/to/chest_xray --init=pediatric64 \
      --out=growth.json

Three runs at 128 px are compared: from random networks, from the given model, and from
a short training at 64 px whose time counts. A run ends when the mean KID of its last
two validations is at most --target, or after --kimg. CPU time is that of the process,
without validation; that of the run at 64 px includes compilation. Runs are independent,
so that each can have its own core:

    taskset -c 0 python -m benchmarks.growth --only="from scratch" ... &
    taskset -c 1 python -m benchmarks.growth --only="from a model" ...
"""

import pathlib
import time
from typing import Any
from unittest import mock

import jax
import numpy as np
from absl import flags

from benchmarks import command_line
from cxr_gan.data import Dataset
from cxr_gan.evaluation.metrics import feature_spaces, frechet
from cxr_gan.models import pixel_range
from cxr_gan.runtime import config_files, cpu, process
from cxr_gan.sampling import sampler
from cxr_gan.training import experiment, loop, snapshots, validation

FROM_SCRATCH, FROM_MODEL, FROM_SHORT = (
    *("from scratch", "from a model"),
    "from a short training at 64 px",
)
Record = dict[str, float]  # kimg, CPU minutes, val KID, texture FID


class Reached(Exception):
    """The run has reached the target."""


class Validator(snapshots.Validator):
    """Validates as a run does, and keeps the time of the process and texture FID."""

    def __init__(self, run: experiment.Run, target: float, records: list[Record]):
        super().__init__(run)
        self._target, self._records = target, records
        self._texture = feature_spaces.open_space("texture").extract
        self._real = self._texture(balanced_val(run.dataset))
        self._start, self._validating = time.process_time(), 0.0

    def metrics(self, ema: Any) -> dict[str, float]:
        """The metrics of `snapshots.Validator`.

        Raises:
            Reached: the mean KID of the last two validations is at most the target.
        """
        before = time.process_time()
        minutes = (before - self._start - self._validating) / 60
        metrics = super().metrics(ema)
        config = self._run.generator_config
        params = sampler.GeneratorParams(ema, config)
        labels = np.arange(len(self._real)) % len(config.class_names)
        images = pixel_range.to_uint8(sampler.sample(params, labels, 0))
        fid = frechet.frechet_distance(self._texture(images), self._real)
        self._records.append(
            {"minutes": minutes, "kid": metrics[validation.KID], "texture": fid}
        )
        self._validating += time.process_time() - before
        last = [record["kid"] for record in self._records[-2:]]
        print(f"{minutes:.1f} CPU minutes: KID {last[-1]:.4f}, texture FID {fid:.2f}")
        if len(last) == 2 and np.mean(last) <= self._target:
            raise Reached
        return metrics


def balanced_val(dataset: Dataset) -> np.ndarray:
    """Equally many images of each class of val."""
    val, classes = dataset.val, range(len(dataset.class_names))
    count = min(int(np.sum(val.labels == label)) for label in classes)
    rows = [np.flatnonzero(val.labels == label)[:count] for label in classes]
    return val.images[np.concatenate(rows)]


def train(folder: pathlib.Path, values: flags.FlagValues, **keys: Any) -> list[Record]:
    """Trains until the target is reached; a record of each validation, one per kimg.

    For 64 px, the only record has the minutes of the whole run.

    Raises:
        FileExistsError: the folder exists: a time cannot be continued.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; give another --workdir")
    size = keys.pop("resolution", 128)
    name = "acgan.py" if size == 64 else f"acgan_{size}.py"
    config = config_files.read(config_files.shipped(name))
    config.dataset, config.total_kimg, config.eval_kimg = (
        values.dataset,
        values.kimg,
        1.0,
    )
    config.checkpoint_kimg = config.sample_kimg = 10.0
    config.update(keys)
    run, records = experiment.open_run(config, folder), []
    patched = mock.patch.object(
        loop.snapshots, "Validator", lambda run: Validator(run, values.target, records)
    )
    try:
        if size == 64:
            start = time.process_time()
            loop.train(run)
            records.append({"minutes": (time.process_time() - start) / 60})
        else:
            with patched:
                loop.train(run)
    except Reached:
        pass
    jax.clear_caches()
    every = round(1000 / config.batch_size)  # steps between two validations
    return [
        {"kimg": run.kimg(every * (i + 1)), **record}
        for i, record in enumerate(records)
    ]


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Trains the runs of --only."""
    cpu.set_xla_cpu_flags()  # as cxr_gan.main does
    process.enable_compilation_cache()
    workdir, curves, before = pathlib.Path(values.workdir), {}, {}
    for name in values.only:
        keys: dict[str, Any] = {}
        if name == FROM_MODEL:
            keys["init"] = values.init
        if name == FROM_SHORT:
            short, kimg = workdir / "short64", values.short_kimg
            (end,) = train(
                short,
                values,
                resolution=64,
                total_kimg=kimg,
                eval_kimg=0.0,
            )
            before[name] = end["minutes"]
            keys["init"] = str(short)
        if name != FROM_SCRATCH and values.ema_rampup:
            keys["ema_rampup"] = values.ema_rampup
        curves[name] = train(workdir / name.replace(" ", "_"), values, **keys)
    rows = []
    for name, records in curves.items():
        last = records[-1]
        kid = np.mean([record["kid"] for record in records[-2:]])
        numbers = [last["minutes"], last["minutes"] + before.get(name, 0.0)]
        rows.append([name, f"{last['kimg']:.0f}", *(f"{x:.1f}" for x in numbers)])
        rows[-1] += [f"{kid:.4f}", f"{last['texture']:.2f}"]
    head = ["start", "kimg", "CPU minutes", "with 64 px", "val KID", "texture FID"]
    results = {"target": values.target, "minutes_at_64_px": before, "curves": curves}
    return results, command_line.table(head, rows)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    starts = [FROM_SCRATCH, FROM_MODEL, FROM_SHORT]
    flags.DEFINE_string("dataset", None, "Real images, as in config.dataset.", **own)
    flags.DEFINE_string("init", "pediatric64", "Model of 64 px.", **own)
    flags.DEFINE_string("workdir", "runs/growth", "Folder of the runs.", **own)
    flags.DEFINE_multi_enum("only", starts, starts, "Runs. Default: all.", **own)
    flags.DEFINE_float("kimg", 40.0, "Length of the runs at 128 px.", 1, **own)
    flags.DEFINE_float("short_kimg", 20.0, "Length of the run at 64 px.", 1, **own)
    rampup = "ema_rampup of the runs from a model; 0 = that of the configuration."
    flags.DEFINE_float("ema_rampup", 0.0, rampup, 0, **own)
    flags.DEFINE_float("target", 0.02, "KID to val at which a run ends.", **own)
    flags.mark_flag_as_required("dataset", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
