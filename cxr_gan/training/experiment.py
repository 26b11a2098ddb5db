"""A checked run: its configuration, data, folder and GAN definition."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cxr_gan import config as configs
from cxr_gan import data
from cxr_gan.data import Dataset
from cxr_gan.data.splits import select_subset
from cxr_gan.models.registry import GeneratorConfig
from cxr_gan.runtime import cpu, jax_config, multihost, process
from cxr_gan.sampling import training_images
from cxr_gan.storage import files
from cxr_gan.training import initialization, run_record
from cxr_gan.training.gan import GanDefinition, build_gan, generator_config
from cxr_gan.training.initialization import Ancestor


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that is fixed in a run, after all checks have passed."""

    config: configs.Config
    folder: pathlib.Path
    dataset: Dataset
    gan: GanDefinition
    # What the run starts from; None if it continues, or starts from random networks.
    ancestor: Ancestor | None = None
    ancestors: tuple[str, ...] = ()  # fingerprints, see `Ancestor`

    @property
    def generator_config(self) -> GeneratorConfig:
        """The configuration of the generator this run trains."""
        return generator_config(self.config, self.dataset.class_names)

    @property
    def total_steps(self) -> int:
        """Steps until total_kimg real images have been shown to D."""
        return math.ceil(self.config.total_kimg * 1000 / self.config.batch_size)

    def kimg(self, step: int) -> float:
        """Thousands of real images shown to D in the first `step` steps."""
        return step * self.config.batch_size / 1000

    def due(self, step: int, every_kimg: float, last: bool = False) -> bool:
        """Whether an interval of every_kimg ends with this step, as the last one does.

        An interval of 0 never ends.
        """
        every = max(1, round(every_kimg * 1000 / self.config.batch_size))
        ends = last or step % every == 0 or step == self.total_steps
        return every_kimg > 0 and ends

    def record(self) -> dict[str, Any]:
        """What `run_record.RECORD` holds: schema, configuration, data set; JSON types.

        Folders above the data set are left out: they may name machines and people.
        """
        name = files.last_name(self.config.dataset)
        config, manifest = self.config, self.config.manifest
        manifest = dataclasses.replace(
            manifest,
            images=files.last_name(manifest.images),
            split=re.sub(r"=[^,]*/", "=", manifest.split),  # train=path/a.txt,test=...
        )
        config = dataclasses.replace(
            config,
            dataset=name,
            manifest=manifest,
            init=files.last_name(config.init),
        )
        return {
            "schema": run_record.SCHEMA,
            "config": configs.to_json(config),
            "jax": jax_config.NUMERICS,
            "ancestors": list(self.ancestors),
            "dataset": {
                "name": name,
                "identity": self.dataset.identity,
                "class_names": list(self.dataset.class_names),
            },
        }

    def metadata(
        self, step: int, rollbacks: int, metrics: dict[str, float]
    ) -> dict[str, Any]:
        """The metadata of a checkpoint; JSON types.

        Args:
            step: steps done.
            rollbacks: rollbacks before this step.
            metrics: validation metrics at this step; empty if it was not validated.
        """
        return {
            **self.record(),
            "generator": configs.to_json(self.generator_config),
            "kimg": self.kimg(step),
            "rollbacks": rollbacks,
            "metrics": metrics,
        }


def open_run(config: ConfigDict, folder: pathlib.Path) -> Run:
    """Checks everything that can be checked before compiling, then claims the folder.

    Raises:
        ValueError, OSError: what was given, what is wrong, what to type.
    """
    with multihost.sync_errors():
        run = _checked(config, folder)
    record = run.record()
    multihost.require_equal(configuration=record["config"], dataset=record["dataset"])
    with multihost.sync_errors():
        if multihost.is_primary():
            run_record.claim_workdir(folder, record)
            write_training_images(run)
    return run


def write_training_images(run: Run) -> None:
    """Writes the digests of the images that the run and its ancestors are trained on.

    The file of a run that continues is kept. If it is missing, it is written only if
    the run has no ancestors: the digests of an ancestor's images cannot be recovered.
    """
    has_file = (run.folder / training_images.FILE).exists()
    continues = run_record.has_checkpoint(run.folder)
    if continues and (has_file or run.ancestors):
        return
    train, samples = run.dataset.train, run.config.samples_per_class
    rows = select_subset(train, len(run.dataset.class_names), samples)
    used = np.sort(np.concatenate(rows))
    own = training_images.digests(train.images, used.tolist())
    inherited = run.ancestor.training_images if run.ancestor else {}
    training_images.write(run.folder, training_images.merge(inherited, own))


def _checked(config: ConfigDict, folder: pathlib.Path) -> Run:
    configs.check(config)
    frozen = configs.freeze(config)
    dataset = data.load(
        frozen.dataset,
        frozen.resolution,
        split_seed=frozen.split_seed,
        options=frozen.read_options,
    )
    group = frozen.stddev_group_per_class * len(dataset.class_names)
    process.set_cpu_device_count(num_groups=frozen.batch_size // group)
    check_fit(frozen, dataset.class_names, jax.device_count())
    check_samples(frozen.samples_per_class, dataset)
    run = Run(frozen, folder, dataset, build_gan(frozen, dataset.class_names))
    # The primary process broadcasts the initial state.
    if not frozen.init or not multihost.is_primary():
        return run
    if run_record.has_checkpoint(folder):
        return dataclasses.replace(run, ancestors=run_record.read_ancestors(folder))
    ancestor = initialization.load(frozen.init)
    initialization.check(ancestor, run.gan, dataset.class_names)
    return dataclasses.replace(run, ancestor=ancestor, ancestors=ancestor.ancestors)


def check_fit(config: configs.Config, class_names: Sequence[str], devices: int) -> None:
    """Checks that a configuration fits the classes of the data and the devices.

    The number of CPU devices is fixed by the first use of JAX in a process.

    Raises:
        ValueError: naming what does not divide, and the nearest value that does.
    """
    classes, samples = len(class_names), config.samples_per_class
    if len(samples) not in (1, classes):
        raise ValueError(
            f"samples_per_class={samples} names {len(samples)} classes, the data has "
            f"{classes} ({', '.join(class_names)}); give one number for all, as "
            f"(100,), or {classes}"
        )
    share = config.stddev_group_per_class * classes * devices
    if config.batch_size % share:
        nearest = max(share, round(config.batch_size / share) * share)
        fits_one = cpu.on_cpu() and config.batch_size % (share // devices) == 0
        other = "; or train in a new process, with other devices" if fits_one else ""
        raise ValueError(
            f"batch_size={config.batch_size} cannot be split over {devices} devices "
            f"into groups of {config.stddev_group_per_class} images of each of "
            f"{classes} classes; use a multiple of {share}, as "
            f"--config.batch_size={nearest}, or a smaller "
            f"--config.stddev_group_per_class{other}"
        )


def check_samples(samples: Sequence[int], dataset: data.Dataset) -> None:
    """Raises ValueError if samples_per_class asks for more images than a class has."""
    counts = dataset.train.counts(len(dataset.class_names)).tolist()
    wanted = [*samples] * (len(counts) // len(samples))
    for name, count, limit in zip(dataset.class_names, counts, wanted, strict=True):
        if limit > count:
            raise ValueError(
                f"samples_per_class={samples} asks for {limit} images of class "
                f"{name!r}, which has {count} in train; use at most {count}, or 0 for "
                "all"
            )
