"""A run that passed the door: its configuration, its data, its folder, its game."""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from cxr_gan import config as configs
from cxr_gan import data, disk, hosts, lock, parallel
from cxr_gan.data import Dataset
from cxr_gan.gan import Gan, GeneratorSpec, build, spec_of

RECORD = "run.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """All that is fixed in a run; nothing is wrong with it that can be known now."""

    config: ConfigDict
    folder: pathlib.Path
    dataset: Dataset
    gan: Gan

    @property
    def spec(self) -> GeneratorSpec:
        """Of the generator this run trains."""
        return spec_of(self.config, self.dataset.class_names)

    @property
    def total_steps(self) -> int:
        """Rounds until total_kimg real images have been shown to D."""
        return math.ceil(self.config.total_kimg * 1000 / self.config.batch_size)

    def kimg(self, step: int) -> float:
        """Thousands of real images shown to D in the first `step` rounds."""
        return step * self.config.batch_size / 1000

    def due(self, step: int, every_kimg: float) -> bool:
        """Whether an interval ends with this step; the last step ends each but none."""
        if not every_kimg:
            return False
        every = max(1, round(every_kimg * 1000 / self.config.batch_size))
        return step % every == 0 or step == self.total_steps

    def record(self) -> dict[str, Any]:
        """The run as JSON gives it back: its config and its data."""
        return {
            "config": configs.to_json(self.config),
            "dataset": {
                "name": self.config.dataset,
                "identity": self.dataset.identity,
                "class_names": list(self.dataset.class_names),
            },
        }

    def meta(
        self, step: int, rollbacks: int, figures: dict[str, float]
    ) -> dict[str, Any]:
        """What a checkpoint says of itself, as JSON.

        `rollbacks` are those before it, `figures` those of val.
        """
        spec = dataclasses.asdict(self.spec)
        spec["class_names"] = list(self.spec.class_names)
        return {
            **self.record(),
            "spec": spec,
            "kimg": self.kimg(step),
            "rollbacks": rollbacks,
            "figures": figures,
        }


def open_run(config: ConfigDict, folder: pathlib.Path) -> Run:
    """Says everything that can be wrong before any compile, then claims the folder.

    Raises:
        ValueError, OSError: what was given, what is wrong, what to type.
    """
    with hosts.together():
        run = _checked(config, folder)
    record = run.record()
    hosts.require_same(configuration=record["config"], dataset=record["dataset"])
    with hosts.together():
        if hosts.first():
            claim(folder, record)
    return run


def _checked(config: ConfigDict, folder: pathlib.Path) -> Run:
    configs.check(config)
    seed = config.split_seed
    dataset = data.load(config.dataset, config.resolution, split_seed=seed)
    group = config.group_per_class * len(dataset.class_names)
    parallel.use_cores(shares=config.batch_size // group)
    configs.check_fit(config, dataset.class_names, jax.device_count())
    return Run(config, folder, dataset, build(config, dataset.class_names))


def claim(folder: pathlib.Path, record: dict[str, Any]) -> None:
    """Makes the folder of a run, or makes sure that it belongs to this very run.

    Raises:
        ValueError: the folder is another run's, or no run's, or in use; says what to
            type.
        DiskError: it cannot be written to.
    """
    path = folder / RECORD
    if not path.exists():
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; give another --workdir")
        ours = (path.with_suffix(disk.UNFINISHED), folder / lock.NAME)
        if folder.exists() and any(p not in ours for p in folder.iterdir()):
            raise ValueError(
                f"{folder} is not empty, and no run of ours: it has no {RECORD}; give "
                "another --workdir"
            )
        with disk.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder):
        if not path.exists():
            write(path, record)
            return
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            complaint = difference(old, record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}); bring it back, or give another "
                "--workdir"
            ) from error
    if complaint:
        raise ValueError(f"{folder} {complaint}")


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Why one record's run cannot go on as the other's; "" where it can."""
    changed = configs.differences(old["config"], new["config"])
    was, now = old["dataset"], new["dataset"]
    sums = was["identity"][:12], now["identity"][:12]
    if changed:
        return (
            "was trained with another configuration (old -> new):\n  "
            + "\n  ".join(changed)
            + "\ngive another --workdir to train anew, or the old values to go on"
        )
    if (was["identity"], was["class_names"]) != (now["identity"], now["class_names"]):
        return (
            f"was trained on other images than {now['name']} holds now (classes "
            f"{was['class_names']}, sha256 {sums[0]}; now {now['class_names']}, "
            f"{sums[1]}); bring the old data back to go on, or give another --workdir"
        )
    return ""


def write(path: pathlib.Path, content: dict[str, Any]) -> None:
    """JSON, whole or not at all."""
    with disk.whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
