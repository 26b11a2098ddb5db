"""The tiny generator as a published model: its run, its report, the command's flags."""

import copy
import dataclasses
import json

import tiny_generator
from absl import flags
from flax import traverse_util

from cxr_gan import publish
from cxr_gan.config import freeze, to_json
from cxr_gan.config import published as published_config
from cxr_gan.evaluation.results import POOLED, Estimate, MetricKey, to_rows
from cxr_gan.sampling import pretrained, sampler
from cxr_gan.storage import checkpoint
from cxr_gan.storage.checksums import json_crc32

IDENTITY = "ab" * 32
PEOPLE = "Nobody: noise in the shape of weights."
LICENCE = "CC0, drawn by dice."
META = {
    "step": 7,
    "kimg": 0.448,
    "config": to_json(freeze(published_config())) | {"dataset": "/home/jane/set"},
    "dataset": {
        "name": "/home/jane/set",
        "identity": IDENTITY,
        "class_names": ["NORMAL", "PNEUMONIA"],
    },
    "generator": dataclasses.asdict(tiny_generator.CONFIG),
    "metrics": {"eval/kid": 0.5},
    "score": 0.5,
}
COUNTS = {"NORMAL": 30, "PNEUMONIA": 31}
# Key of 0.1 -> key since 0.2, and a value that differs from the default.
RENAMED = {
    "decay": ("lr_decay_fraction", 0.21),
    "draw_kimg": ("sample_kimg", 11.0),
    "evaluate_kimg": ("eval_kimg", 12.0),
    "save_kimg": ("checkpoint_kimg", 13.0),
    "report_kimg": ("log_kimg", 1.5),
    "rollbacks": ("max_rollbacks", 2),
    "sharpen": ("checkerboard_ramp", 0.55),
    "precision": ("compute_dtype", "bfloat16"),
    "augment_by_lead": ("augment.adaptive", True),
    "group_per_class": ("stddev_group_per_class", 5),
    "generator.embedding": ("generator.class_embedding_dim", 65),
    "loss.class_weight_d": ("loss.class_weight.d", 0.51),
    "loss.class_weight_g": ("loss.class_weight.g", 0.41),
    "loss.classes": ("loss.class_loss", "both"),
    "loss.feature_matching": ("loss.feature_matching_weight", 0.31),
    "loss.sameness_weight": ("loss.diversity_weight", 1.1),
    "loss.r1_every": ("loss.r1_interval", 9),
}
CONVERTED_CONFIG = {"dataset": "set", **dict(RENAMED.values())}


def config_0_1(changes=()) -> dict:
    """A configuration as version 0.1 stored it; `changes` are {dotted key: value}."""
    flat = traverse_util.flatten_dict(META["config"], sep=".") | {"dataset": "set"}
    for old, (new, value) in RENAMED.items():
        del flat[new]
        flat[old] = value
    removed = {"microbatches": 2, "condition": 0.0}
    return traverse_util.unflatten_dict(flat | removed | dict(changes), sep=".")


def report(model_hash: str) -> dict:
    """A report as `cxr_gan.evaluate` writes it, with three metrics."""
    fid = MetricKey("fid", "cxr", POOLED, "generated~B")
    label_accuracy = MetricKey("label_accuracy", "classifier", POOLED, "generated")
    near = MetricKey("near_copies", "pixels", POOLED, "generated~train")
    estimates = {
        fid: Estimate(2.25, 2.0, 2.5, 61, 0),
        fid._replace(sets="A~B"): Estimate(0.5, 0.25, 0.75, 61, 0),
        label_accuracy: Estimate(0.875, 0.75, 1.0, 64, 0),
        label_accuracy._replace(sets="val"): Estimate(0.9375, 0.875, 1.0, 64, 0),
        near: Estimate(1.0, 0.0, 3.0, 64, 0),
        near._replace(sets="val~train"): Estimate(0.0, 0.0, 0.0, 64, 0),
    }
    return {
        "verdict": "verdict: texture too smooth",
        "faults": ["texture too smooth"],
        "notes": ["few images"],
        "images": {"path": "/home/jane/runs/tiny", "model_hash": model_hash},
        "dataset": {
            "name": "/home/jane/set",
            "identity": IDENTITY,
            "counts": {"A": COUNTS, "B": COUNTS, "val": COUNTS},
        },
        "resolution": 32,
        "class_names": ["NORMAL", "PNEUMONIA"],
        "pooled": POOLED,
        "seed": 0,
        "spaces": ["cxr"],
        "method": "Halved by patient.",
        "metrics": to_rows(estimates),
        "nearest_pairs": {"cxr": [{"train": "train/NORMAL/jane.png"}]},
        "software": {"cxr_gan": "0.1.0"},
    }


def write_report(folder, **changes):
    """Writes a report of the tiny generator; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = report(sampler.fingerprint(tiny_generator.params())) | changes
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def flags_of_run(folder, name="tiny"):
    """{flag: argument} that publishes runs/tiny as folder/NAME.npz."""
    values = {
        "model": "runs/tiny",
        "report": folder / "report",
        "out": folder / f"{name}.npz",
        "card": folder / f"{name}.md",
        "people": PEOPLE,
        "licence": LICENCE,
    }
    return {flag: f"--{flag}={value}" for flag, value in values.items()}


def command(folder, *arguments, name="tiny"):
    """Publishes runs/tiny as folder/NAME.npz; `arguments` replace or add flags."""
    replaced = {argument.partition("=")[0].lstrip("-") for argument in arguments}
    defaults = flags_of_run(folder, name)
    kept = [argument for flag, argument in defaults.items() if flag not in replaced]
    return run(*kept, *arguments)


def run(*arguments):
    """python -m cxr_gan.publish with exactly these flags; returns the exit code."""
    values = flags.FlagValues()
    publish.define_flags(values)
    values(["publish", *arguments])
    return publish.main(["publish"], values)


def patch(monkeypatch, meta=META):
    """Makes every run the tiny generator."""
    weights = tiny_generator.params().params
    monkeypatch.setattr(checkpoint, "load_item", lambda *_: (weights, meta))


def write_as_0_1(folder, changes=()):
    """Writes folder/old.npz: tiny.npz as version 0.1 published it; returns its path.

    The names of 0.1 are written out here, not derived from `sampling.convert`.
    """
    card = copy.deepcopy(pretrained.load_card(folder / "tiny.json"))
    del card["schema"]
    card["config"] = config_0_1(changes)
    card["spec"] = card.pop("generator")
    card["spec"]["embedding"] = card["spec"].pop("class_embedding_dim")
    card["figures"] = {
        "eval/kid": card.pop("metrics")["eval/kid"],
        "eval/fidelity": 0.75,
        "eval/fidelity/NORMAL": 0.5,
        "eval/repetition/PNEUMONIA": 0.25,
    }
    rows = card["report"].pop("metrics")
    for row in rows:
        row["floor"] = row.pop("reference")
        if row["metric"] == "label_accuracy":
            row |= {"metric": "label_fidelity", "space": "judge"}
    card["report"]["figures"] = rows
    write_card(folder / "old.json", card)
    npz = folder / "old.npz"
    npz.write_bytes((folder / "tiny.npz").read_bytes())
    return npz


def write_card(path, card):
    """Writes a card of any schema, with the crc32 of its content."""
    path.write_text(json.dumps({**card, "crc32": json_crc32(card)}))
