r"""Measures what a start from trained networks saves, on a class that they never saw.

    python -m benchmarks.finetuning --data=path/to/chest_xray --out=finetuning.json

`path/to/chest_xray` is the paediatric data set, whose file names tell bacterial from
viral pneumonia. One run is pretrained on normal and bacterial images, another on
phantoms. Each start of `STARTS` is then trained on a few normal and viral images, from
random networks or from one of these two. The metrics are of generated viral images:
they are compared with viral images of patients that no run was trained on. Those in
`val` also selected the best checkpoint.

Seed 0 of every run is trained first. Finished runs are kept in --workdir: the same
command continues where it stopped, and several processes can share the work, each on
its own core.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import tqdm
from absl import flags

from benchmarks import command_line
from benchmarks.ablation_variants import DIFF_AUGMENT
from cxr_gan import config as configs
from cxr_gan import data
from cxr_gan.data import patients
from cxr_gan.data.dataset import ImageSet
from cxr_gan.data.splits import hash_order
from cxr_gan.evaluation import label_classifier_cache
from cxr_gan.evaluation.metrics import (
    feature_spaces,
    label_classifier,
    nearest_neighbours,
    pixel_search,
)
from cxr_gan.evaluation.pairwise_metrics import DISTANCES
from cxr_gan.models import pixel_range
from cxr_gan.runtime import config_files, cpu, process
from cxr_gan.sampling import sampler
from cxr_gan.storage import lock
from cxr_gan.training import experiment, loop

NORMAL, BACTERIAL, VIRAL = "NORMAL", "BACTERIAL", "VIRAL"
LARGEST = 1000  # images of each class; smaller sets are contained in larger ones
PRETRAINED = {"bacterial": "", "phantom": "phantom"}  # ancestor -> its data set
SPACES = ("cxr", "texture")
Metrics = dict[str, Any]


class Start(NamedTuple):
    """How a run starts, and its configuration."""

    ancestor: str  # of PRETRAINED; "" = random networks
    changes: Mapping[str, Any]
    file: str = "acgan.py"  # in configs/; its values before the changes
    frozen: tuple[str, ...] = ()  # layers of D that are not trained


DEFAULT_EMA = {"ema_halflife_kimg": 10.0, "ema_rampup": 0.05}
DEFAULT_RATES = {"optimizer_d.learning_rate": 6e-3, "optimizer_g.learning_rate": 1e-2}
STARTS = {
    "from scratch": Start("", {**DEFAULT_RATES, **DEFAULT_EMA}, "finetune.py"),
    "fine-tuned": Start("bacterial", {}, "finetune.py"),
    "from phantoms": Start(
        "phantom", {"init_classes": "VIRAL=PNEUMONIA"}, "finetune.py"
    ),
    # One change of the default configuration each.
    "default configuration": Start("bacterial", {}),
    "adaptive augmentation": Start(
        "bacterial", {**DIFF_AUGMENT, "augment.adaptive": True}
    ),
    "learning rates x 0.3": Start(
        "bacterial",
        {"optimizer_d.learning_rate": 1.8e-3, "optimizer_g.learning_rate": 3e-3},
    ),
    "EMA of 2 kimg": Start("bacterial", {"ema_halflife_kimg": 2.0, "ema_rampup": 1.0}),
    "R1 x 5": Start("bacterial", {"loss.r1_weight": 0.5}),
    # Mo et al. 2020, "Freeze the Discriminator".
    "frozen lower layers of D": Start(
        "bacterial", {}, frozen=("stem_64", "block_32", "block_16")
    ),
    # One change of finetune.py.
    "default EMA": Start("bacterial", DEFAULT_EMA, "finetune.py"),
}


def class_of(path: pathlib.Path) -> str:
    """The class of an image of the paediatric set, from its name and folder."""
    if path.parent.name == NORMAL:
        return NORMAL
    return BACTERIAL if "bacteria" in path.name else VIRAL


def link_sets(
    source: pathlib.Path, folder: pathlib.Path, counts: Sequence[int]
) -> None:
    """Writes data sets of links: bacterial, held_out, and one for each count.

    Each has the images of its classes in train and val. The counted images of a class
    are the first ones in a hash order of patients; only the last patient may be
    incomplete.

    Raises:
        ValueError: `source` is not the paediatric data set.
    """
    paths = {part: sorted((source / part).glob("*/*")) for part in ("train", "val")}
    classes = {class_of(path) for part in paths.values() for path in part}
    if not all(paths.values()) or classes != {NORMAL, BACTERIAL, VIRAL}:
        raise ValueError(
            f"--data={source} is not the paediatric data set: it needs train and val, "
            "with images in NORMAL and PNEUMONIA whose names have bacteria or virus"
        )
    by_patient: dict[str, dict[Any, list[pathlib.Path]]] = {}
    for path in paths["train"]:
        own = by_patient.setdefault(class_of(path), collections.defaultdict(list))
        own[str(patients.patient_of(path.name))].append(path)
    ordered = {
        name: [p for key in hash_order([*own], 0) for p in own[key]]
        for name, own in by_patient.items()
    }
    val = paths["val"]
    _link(folder / "bacterial" / "train", ordered[NORMAL] + ordered[BACTERIAL])
    _link(folder / "bacterial" / "val", [p for p in val if class_of(p) != VIRAL])
    for count in counts:
        for name in (NORMAL, VIRAL):
            _link(folder / str(count) / "train", ordered[name][:count])
        _link(folder / str(count) / "val", [p for p in val if class_of(p) != BACTERIAL])
    used = {patients.patient_of(path.name) for path in ordered[VIRAL][:LARGEST]}
    rest = [p for p in ordered[VIRAL] if patients.patient_of(p.name) not in used]
    _link(folder / "held_out" / "train", rest + ordered[NORMAL][LARGEST:])
    _link(folder / "held_out" / "val", [p for p in val if class_of(p) != BACTERIAL])


def _link(folder: pathlib.Path, paths: Sequence[pathlib.Path]) -> None:
    for path in paths:
        link = folder / class_of(path) / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path.resolve())


def viral(images: ImageSet, names: Sequence[str]) -> ImageSet:
    """The images of the new class."""
    return images.take(images.labels == list(names).index(VIRAL))


def measure_model(run: pathlib.Path, sets: pathlib.Path, count: int) -> Metrics:
    """Metrics of generated viral images of the best checkpoint of a run."""
    params, meta = sampler.load_with_meta(f"{run}@best")
    names = params.class_names
    own = data.load(str(sets / str(count)), 64, split_seed=0)
    large = data.load(str(sets / str(LARGEST)), 64, split_seed=0)
    unused = data.load(str(sets / "held_out"), 64, split_seed=0)
    held_out = viral(unused.train, names).join(viral(unused.val, names))
    labels = [VIRAL] * len(held_out)
    images = pixel_range.to_uint8(sampler.sample(params, labels, 0))
    result = distances(images, held_out.images)
    result |= {"kimg": meta["kimg"], "images": len(held_out)}
    classifier = label_classifier_cache.load_or_fit(large.train, len(names))
    predicted = label_classifier.predict(classifier, images).argmax(1)
    result["label accuracy"] = float(np.mean(predicted == names.index(VIRAL)))
    train = viral(own.train, names).images
    for view, vectors, search in (
        ("cxr", extract("cxr"), nearest_neighbours.nearest),
        (
            "pixels",
            pixel_search.pixel_vectors,
            pixel_search.nearest_in_any_pose,
        ),
    ):
        sets_of_images = (images, train, held_out.images)
        audit = nearest_neighbours.audit(*map(vectors, sets_of_images), search=search)
        result[f"near training/{view}"] = float(audit.below.mean())
        result[f"near copies/{view}"] = int(audit.near.sum() + audit.exact.sum())
    return result


def extract(space: str) -> Any:
    """The function from images to features."""
    return feature_spaces.open_space(space).extract


def distances(images: np.ndarray, real: np.ndarray) -> Metrics:
    """{"fid/cxr": ...}: every distance of two sets of equal size."""
    metrics: Metrics = {}
    for space in SPACES:
        a, b = map(extract(space), (images, real))
        for distance in DISTANCES:
            keys = [f"{name}/{space}" for name in distance.names]
            values = np.atleast_1d(distance.function(a, b)).tolist()
            metrics |= zip(keys, values, strict=True)
    return metrics


def real_reference(sets: pathlib.Path) -> Metrics:
    """The same distances for equally many real images in place of generated ones."""
    unused = data.load(str(sets / "held_out"), 64, split_seed=0)
    names = unused.class_names
    held_out = viral(unused.train, names).join(viral(unused.val, names)).images
    large = data.load(str(sets / str(LARGEST)), 64, split_seed=0)
    return distances(viral(large.train, names).images[: len(held_out)], held_out)


def curve(run: pathlib.Path) -> list[list[float]]:
    """[kimg, val KID of viral images, minutes so far] of each validation."""
    rows, minutes, before = [], 0.0, 0.0
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if speed := row.get("time/images_per_second"):
            minutes += 1000 * (row["kimg"] - before) / speed / 60
            before = row["kimg"]
        if f"eval/kid/{VIRAL}" in row:
            rows.append([row["kimg"], row[f"eval/kid/{VIRAL}"], minutes])
    return rows


def without(
    layers: Sequence[str], optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The optimizer, which leaves these layers as they are.

    Raises:
        KeyError: the parameters that it is initialised for lack one of the layers.
    """

    def is_frozen(params: Any) -> Any:
        for name in layers:
            params[name]
        return {
            name: jax.tree.map(lambda _, frozen=name in layers: frozen, layer)
            for name, layer in params.items()
        }

    return optax.chain(optimizer, optax.masked(optax.set_to_zero(), is_frozen))


def train(run: experiment.Run, frozen: Sequence[str] = ()) -> None:
    """Trains a run to its end; returns at once if it is finished.

    Raises:
        lock.InUseError: another process trains the run.
    """
    if frozen:
        optimizer = without(frozen, run.gan.optimizer_d)
        run = dataclasses.replace(
            run, gan=dataclasses.replace(run.gan, optimizer_d=optimizer)
        )
    loop.train(run)
    jax.clear_caches()  # see `ablation.train_and_measure`


def jobs(values: flags.FlagValues) -> list[tuple[str, int, int]]:
    """(name of a start, images of each class, seed) of every run, seed 0 first."""
    counts = [*map(int, values.counts)]
    return [
        (name, count, seed)
        for seed in range(values.seeds)
        for count in counts
        for name in values.only
    ]


def train_all(values: flags.FlagValues) -> Iterator[tuple[str, Metrics]]:
    """Yields the record of each run, without those in other processes."""
    workdir = pathlib.Path(values.workdir)
    sets = workdir / "sets"
    link_sets(
        pathlib.Path(values.data), sets, sorted({*map(int, values.counts), LARGEST})
    )
    needed = {STARTS[name].ancestor for name in values.only} - {""}
    for name in sorted(needed):
        config = configs.published()
        config.dataset = PRETRAINED[name] or str(sets / name)
        config.total_kimg = values.pretrain_kimg
        train(experiment.open_run(config, workdir / name))
    for name, count, seed in tqdm.tqdm(jobs(values), disable=None):
        start = STARTS[name]
        slug = name.replace(" ", "_").replace(".", "")
        folder = workdir / f"{slug}_{count}_{seed}"
        config = config_files.read(config_files.shipped(start.file))
        config.update_from_flattened_dict(dict(start.changes))
        config.init = f"{workdir / start.ancestor}@best" if start.ancestor else ""
        config.dataset, config.seed = str(sets / str(count)), seed
        config.total_kimg, config.eval_kimg = values.kimg, 1.0
        config.sample_kimg = values.kimg / 5
        record = folder / "finetuning.json"
        try:
            run = experiment.open_run(config, folder)  # refuses another configuration
            if not record.exists():
                train(run, start.frozen)
                measured = measure_model(folder, sets, count)
                command_line.write_json(record, measured | {"curve": curve(folder)})
        except lock.InUseError:
            continue
        yield f"{name}, {count}", json.loads(record.read_text(encoding="utf-8"))


# Columns of the table: heading -> metric, and its format.
COLUMNS = {
    "FID, cxr": ("fid/cxr", ".1f"),
    "FID, texture": ("fid/texture", ".2f"),
    "KID, cxr": ("kid/cxr", ".3f"),
    "recall, cxr": ("recall/cxr", ".2f"),
    "coverage, cxr": ("coverage/cxr", ".2f"),
    "label accuracy": ("label accuracy", ".2f"),
    "near training, cxr": ("near training/cxr", ".1%"),
    "near training, pixels": ("near training/pixels", ".1%"),
    "kimg of the best": ("kimg", ".0f"),
    "minutes to the best": ("minutes", ".1f"),
}


def table(records: dict[str, list[Metrics]], real: Metrics) -> str:
    """A row for each start and count: means over its runs; the last row is real."""
    rows = []
    for name, runs in records.items():
        for run in runs:
            run["minutes"] = next(m for k, _, m in run["curve"] if k >= run["kimg"])
        means = [f"{np.mean([r[k] for r in runs]):{f}}" for k, f in COLUMNS.values()]
        rows.append([name, str(len(runs)), *means])
    last = [f"{real[k]:{f}}" if k in real else "" for k, f in COLUMNS.values()]
    head = ["start, images a class", "runs", *COLUMNS]
    return command_line.table(head, [*rows, ["real images", "", *last]])


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Trains what is missing."""
    for name in values.only:
        if name not in STARTS:
            hint = configs.suggest(name, [*STARTS])
            raise ValueError(f"--only={name}: no such start{hint}")
    cpu.set_xla_cpu_flags()  # as cxr_gan.main does
    process.enable_compilation_cache()
    records: dict[str, list[Metrics]] = collections.defaultdict(list)
    for name, record in train_all(values):
        records[name].append(record)
    real = real_reference(pathlib.Path(values.workdir) / "sets")
    return {"starts": records, "real": real}, table(records, real)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("data", None, "Folder of the paediatric data set.", **own)
    flags.DEFINE_string("workdir", "runs/finetuning", "Folder of the runs.", **own)
    flags.DEFINE_list("counts", ["25", "100", "1000"], "Images of each class.", **own)
    flags.DEFINE_list("only", [*STARTS], "Starts. Default: all.", **own)
    flags.DEFINE_integer("seeds", 2, "Runs of each start.", 1, **own)
    flags.DEFINE_float("kimg", 20.0, "Length of each run.", 1, **own)
    flags.DEFINE_float("pretrain_kimg", 60.0, "Length of the pretraining.", 1, **own)
    flags.mark_flag_as_required("data", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
