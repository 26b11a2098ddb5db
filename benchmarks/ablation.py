"""Effect of each part of the recipe on image quality: each part removed or replaced.

    python -m benchmarks.ablation --dataset=path/to/chest_xray --out=ablation.md

Every variant in `benchmarks/arms.py` is trained by the library's own training step on
equally many images, with the same seeds, and measured by the library's metrics.
--stage=sort trains narrow networks at 32 x 32 pixels. --stage=few trains the same
networks on 100 images of each class, few_250 and few_1000 on as many as their names
say, to measure the effect of augmentation. --stage=leave_one_out trains the published
networks at 64 x 64, for the variants with the largest effects in the sort. All variants
get seed 0 first, then all seed 1, so a table of few seeds is available early. Each
finished run is one JSON file: the same command continues where it stopped, and several
processes can share the work, each on its own core:

    taskset -c 0 python -m benchmarks.ablation --dataset=path/to/chest_xray &
    taskset -c 1 python -m benchmarks.ablation --dataset=path/to/chest_xray
"""

import json
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import tqdm
from absl import app, flags, logging
from ml_collections import ConfigDict

from benchmarks import arms, effects, pages, trial
from cxr_gan import config as configs
from cxr_gan import data
from cxr_gan.runtime import cpu, process
from cxr_gan.storage import lock
from cxr_gan.training import experiment
from cxr_gan.training.gan import build_gan

VALIDATIONS = 6  # during a run; the last one at its end
NARROW: arms.Changes = {
    "resolution": 32,
    "generator.features_at_32": 32,
    "generator.max_features": 64,
    "discriminator.features_at_32": 16,
    "discriminator.max_features": 128,
    "total_kimg": 24.0,
}
# Stage -> its changes to the published configuration; those of a variant follow.
STAGES: dict[str, arms.Changes] = {
    "sort": NARROW,
    "few": {**NARROW, "samples_per_class": (100,)},
    "few_250": {**NARROW, "samples_per_class": (250,)},
    "few_1000": {**NARROW, "samples_per_class": (1000,)},
    "leave_one_out": {"total_kimg": 60.0},
}
LARGEST = 6  # effects of the sort that leave_one_out repeats


def base_config(stage: str, dataset: str, kimg: float | None) -> ConfigDict:
    """The configuration that all variants of a stage share."""
    config = configs.published()
    config.update_from_flattened_dict({**STAGES[stage], "dataset": dataset})
    config.total_kimg = kimg or config.total_kimg
    config.eval_kimg = config.total_kimg / VALIDATIONS
    configs.check(config)
    return config


def path_of(workdir: pathlib.Path, stage: str, variant: str, seed: int) -> pathlib.Path:
    """WORKDIR/sort/no_r1/0/run.json."""
    slug = re.sub(r"[^a-z0-9]+", "_", variant.lower())
    return workdir / stage / slug / str(seed) / "run.json"


def read_record(path: pathlib.Path, config: dict[str, Any]) -> effects.Record | None:
    """The record of a finished run; None if there is none.

    Raises:
        ValueError: the record is of another configuration, or is not valid JSON.
    """
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        old_config = record["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); move it away") from error
    if old_config != config:
        old, new = (configs.flatten(ConfigDict(c)) for c in (old_config, config))
        changed = [k for k in sorted(old | new) if old.get(k) != new.get(k)]
        raise ValueError(
            f"{path} was trained with another value of {', '.join(changed)}; give "
            "another --workdir, or the old values to continue"
        )
    return record


def train_missing(
    jobs: Sequence[tuple[str, int]],
    base: ConfigDict,
    stage: str,
    workdir: pathlib.Path,
) -> Iterator[tuple[str, int, effects.Record]]:
    """Yields the record of every job, and trains those without one, in order.

    A job that another process is training is skipped.
    """
    reference: trial.RealReference | None = None
    for variant, seed in tqdm.tqdm(jobs, stage, disable=None):
        config = arms.applied(variant, base)
        config.seed = seed
        frozen = configs.freeze(config)
        path = path_of(workdir, stage, variant, seed)
        record = read_record(path, configs.to_json(frozen))
        if record is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with lock.acquire(path.parent):
                    reference = reference or trial.RealReference(
                        data.load(
                            base.dataset, base.resolution, split_seed=base.split_seed
                        )
                    )
                    dataset = reference.dataset
                    gan = build_gan(frozen, dataset.class_names)
                    run = experiment.Run(frozen, path.parent, dataset, gan)
                    record = {
                        "config": configs.to_json(frozen),
                        **trial.train_and_measure(run, reference),
                    }
                    experiment.write_record(path, record)
                    # The programs of a run take about 2,400 memory mappings. Linux
                    # allows a process 65,530; beyond that it is killed without a
                    # Python error.
                    jax.clear_caches()
            except lock.InUseError:
                continue
        yield variant, seed, record


def select_variants(values: flags.FlagValues, workdir: pathlib.Path) -> list[str]:
    """The variants of --only; else those of the stage.

    Raises:
        ValueError: there is no such variant, or no sort yet.
    """
    if values.only:
        unknown = [name for name in values.only if name not in arms.VARIANTS]
        if unknown:
            hint = configs.suggest(unknown[0], [*arms.VARIANTS])
            raise ValueError(f"--only={unknown[0]}: no such variant{hint}")
        return values.only
    if values.stage == "sort":
        return [*arms.VARIANTS]
    if values.stage.startswith("few"):
        return [*arms.FOR_FEW]
    records = read_all(workdir, "sort")
    if arms.DEFAULT not in records:
        raise ValueError(f"{workdir} holds no sort: run --stage=sort first")
    always = [arms.DEFAULT, arms.PLAIN]
    return [*always, *effects.largest(records, LARGEST, always)]


def read_all(workdir: pathlib.Path, stage: str) -> effects.Records:
    """{variant: [its finished runs, by seed]}, variants in the order of VARIANTS."""
    found: effects.Records = {}
    for variant in arms.VARIANTS:
        folder = path_of(workdir, stage, variant, 0).parents[1]
        paths = sorted(folder.glob("*/run.json"))
        records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        for record in records:
            config = record.pop("config")
            names = ("seed", "total_kimg", "resolution")
            record |= {name: config[name] for name in names}
        if records:
            found[variant] = records
    return found


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Trains what is missing and writes the table; returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        workdir = pathlib.Path(values.workdir)
        base = base_config(values.stage, values.dataset, values.kimg)
        if values.out:
            pages.earlier(pathlib.Path(values.out), values.stage)
        variants = select_variants(values, workdir)
        jobs = [(name, seed) for seed in range(values.seeds) for name in variants]
        arms.register()
        cpu.set_xla_cpu_flags()  # as cxr_gan.main does
        process.enable_compilation_cache()
        for variant, seed, record in train_missing(jobs, base, values.stage, workdir):
            tqdm.tqdm.write(effects.line(variant, seed, record))
        report(read_all(workdir, values.stage), values.stage, values.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def report(records: effects.Records, stage: str, out: str | None) -> None:
    """Writes the table into the page, results and drawing beside it, or prints it.

    Raises:
        ValueError: too few runs are finished.
    """
    picture = f"{pathlib.Path(out or '').stem}.{stage}.svg"
    text = effects.text(records, picture)
    if not out:
        print(text)
        return
    page = pathlib.Path(out)
    pages.keep(page.with_name(picture), effects.draw(records))
    pages.write(page, records, stage, lambda _: text)
    print(f"wrote {page}, {pages.file_of(page, stage)} and {page.with_name(picture)}")


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """A function, so that tests can define the flags on their own FlagValues."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_enum(
        "stage", "sort", [*STAGES], "Size of the networks, and which variants.", **own
    )
    flags.DEFINE_string(
        "dataset", None, "Real images, written as config.dataset.", **own
    )
    flags.DEFINE_string(
        "workdir", "runs/ablation", "Folder of finished runs, JSON.", **own
    )
    flags.DEFINE_string("out", None, "Page to write the table into.", **own)
    flags.DEFINE_list("only", [], "Variants, separated by commas.", **own)
    flags.DEFINE_float("kimg", None, "Thousands of real images per run.", 0.1, **own)
    flags.DEFINE_integer("seeds", 2, "Runs of each variant.", 2, **own)
    flags.mark_flags_as_required(["dataset"], **own)


def cli() -> None:
    """Entry point of the command line."""
    define_flags()
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
