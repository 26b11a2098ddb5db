"""Which parts of the recipe earn their place: each left out, or another put in.

    python -m benchmarks.ablation --dataset=path/to/chest_xray --out=docs/ablation.md

Every arm of `benchmarks/arms.py` is trained by the library's own step on as many
images, of the same seeds, and measured by its own figures. --stage=sort trains narrow
networks at 32 x 32 pixels; --stage=few the same on 100 images of each class, few_250
and few_1000 on as many, for what augmentation is worth there; --stage=leave_one_out the
published ones at 64 x 64, of the arms the sort found to matter most. All arms get seed
0 first, then all seed 1, so that a table of few seeds is there early. A finished run is
one JSON file: the same command goes on where it stopped, and several of it may share
the work, each on a core of its own:

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
from cxr_gan import data, lock, parallel
from cxr_gan import run as runs
from cxr_gan.gan import build
from cxr_gan.models import backend

LOOKS = 6  # at val, on the way, the last at the end
NARROW: arms.Changes = {
    "resolution": 32,
    "generator.features_at_32": 32,
    "generator.max_features": 64,
    "discriminator.features_at_32": 16,
    "discriminator.max_features": 128,
    "total_kimg": 24.0,
}
# Stage -> what it changes of the published configuration, before any arm does.
STAGES: dict[str, arms.Changes] = {
    "sort": NARROW,
    "few": {**NARROW, "samples_per_class": (100,)},
    "few_250": {**NARROW, "samples_per_class": (250,)},
    "few_1000": {**NARROW, "samples_per_class": (1000,)},
    "leave_one_out": {"total_kimg": 60.0},
}
LARGEST = 6  # effects of the sort that are looked at again in leave_one_out


def base_of(stage: str, dataset: str, kimg: float | None) -> ConfigDict:
    """What all arms of a stage have in common."""
    config = configs.published()
    config.update_from_flattened_dict({**STAGES[stage], "dataset": dataset})
    config.total_kimg = kimg or config.total_kimg
    config.evaluate_kimg = config.total_kimg / LOOKS
    configs.check(config)
    return config


def path_of(workdir: pathlib.Path, stage: str, arm: str, seed: int) -> pathlib.Path:
    """WORKDIR/sort/no_r1/0/run.json."""
    slug = re.sub(r"[^a-z0-9]+", "_", arm.lower())
    return workdir / stage / slug / str(seed) / "run.json"


def kept(path: pathlib.Path, config: dict[str, Any]) -> effects.Record | None:
    """A run that was finished earlier; None where there is none.

    Raises:
        ValueError: it was of another configuration, or is no JSON.
    """
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        was = record["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); move it away") from error
    if was != config:
        old, new = (configs.flatten(ConfigDict(c)) for c in (was, config))
        changed = [k for k in sorted(old | new) if old.get(k) != new.get(k)]
        raise ValueError(
            f"{path} was trained with other {', '.join(changed)}; give another "
            "--workdir, or the old values to go on"
        )
    return record


def train_missing(
    jobs: Sequence[tuple[str, int]],
    base: ConfigDict,
    stage: str,
    workdir: pathlib.Path,
) -> Iterator[tuple[str, int, effects.Record]]:
    """Every job's record; those that are not there are trained, in order.

    What another process trains at that moment is left to it, and out.
    """
    yard: trial.Yard | None = None
    for arm, seed in tqdm.tqdm(jobs, stage, disable=None):
        config = arms.applied(arm, base)
        config.seed = seed
        path, told = path_of(workdir, stage, arm, seed), configs.to_json(config)
        record = kept(path, told)
        if record is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with lock.held(path.parent):
                    yard = yard or trial.Yard(
                        data.load(
                            base.dataset, base.resolution, split_seed=base.split_seed
                        )
                    )
                    gan = build(config, yard.dataset.class_names)
                    run = runs.Run(config, path.parent, yard.dataset, gan)
                    record = {"config": told, **trial.play(run, yard)}
                    runs.write(path, record)
                    # A run's programs take some 2,400 mappings of memory; Linux allows
                    # a process 65,530, and beyond it ends without a word of Python.
                    jax.clear_caches()
            except lock.InUseError:
                continue
        yield arm, seed, record


def chosen_arms(values: flags.FlagValues, workdir: pathlib.Path) -> list[str]:
    """Those asked for with --only; else all, or those that mattered most in the sort.

    Raises:
        ValueError: there is no such arm, or no sort yet.
    """
    if values.only:
        unknown = [arm for arm in values.only if arm not in arms.ARMS]
        if unknown:
            hint = configs.suggest(unknown[0], [*arms.ARMS])
            raise ValueError(f"--only={unknown[0]}: no such arm{hint}")
        return values.only
    if values.stage == "sort":
        return [*arms.ARMS]
    if values.stage.startswith("few"):
        return [*arms.FOR_FEW]
    found = collected(workdir, "sort")
    if arms.DEFAULT not in found:
        raise ValueError(f"{workdir} holds no sort: run --stage=sort first")
    beside = [arms.DEFAULT, arms.PLAIN]
    return [*beside, *effects.largest(found, LARGEST, beside)]


def collected(workdir: pathlib.Path, stage: str) -> effects.Records:
    """{arm: [its runs, by seed]} of all that is finished, arms in their order."""
    found: effects.Records = {}
    for arm in arms.ARMS:
        paths = sorted(path_of(workdir, stage, arm, 0).parents[1].glob("*/run.json"))
        records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        for record in records:
            config = record.pop("config")
            names = ("seed", "total_kimg", "resolution")
            record |= {name: config[name] for name in names}
        if records:
            found[arm] = records
    return found


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        workdir = pathlib.Path(values.workdir)
        base = base_of(values.stage, values.dataset, values.kimg)
        if values.out:
            pages.earlier(pathlib.Path(values.out), values.stage)
        chosen = chosen_arms(values, workdir)
        jobs = [(arm, seed) for seed in range(values.seeds) for arm in chosen]
        arms.register()
        backend.ask_compiler()  # as a training does
        parallel.keep_compilations()
        for arm, seed, record in train_missing(jobs, base, values.stage, workdir):
            tqdm.tqdm.write(effects.line(arm, seed, record))
        show(collected(workdir, values.stage), values.stage, values.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def show(found: effects.Records, stage: str, out: str | None) -> None:
    """Into the page, its figures and drawing beside it; without one, printed.

    Raises:
        ValueError: too little is finished to say anything.
    """
    picture = f"{pathlib.Path(out or '').stem}.{stage}.svg"
    told = effects.text(found, picture)
    if not out:
        print(told)
        return
    page = pathlib.Path(out)
    pages.keep(page.with_name(picture), effects.draw(found))
    pages.write(page, found, stage, lambda _: told)
    print(f"wrote {page}, {pages.file_of(page, stage)} and {page.with_name(picture)}")


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, so that tests can give their own."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_enum("stage", "sort", [*STAGES], "Which networks, which arms.", **own)
    flags.DEFINE_string("dataset", None, "Real images, as config.dataset.", **own)
    flags.DEFINE_string("workdir", "runs/ablation", "Finished runs, JSON.", **own)
    flags.DEFINE_string("out", None, "Page to write the table into.", **own)
    flags.DEFINE_list("only", [], "Arms, with commas between.", **own)
    flags.DEFINE_float("kimg", None, "Thousands of real images a run.", 0.1, **own)
    flags.DEFINE_integer("seeds", 2, "Runs of each arm.", 2, **own)
    flags.mark_flags_as_required(["dataset"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
