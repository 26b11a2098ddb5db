"""The tiny generator as a published model: its run, its report, the command's flags."""

import dataclasses
import json

import numpy as np
import tiny_generator
from absl import flags

from cxr_gan import publish
from cxr_gan.config import freeze, to_json
from cxr_gan.config import published as published_config
from cxr_gan.evaluation.results import POOLED, Estimate, MetricKey, to_rows
from cxr_gan.sampling import sampler, training_images
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
# As they were trained, at the checkpoint of `META`.
NETWORKS = {
    "generator": tiny_generator.params(seed=1).params,
    "discriminator": {"stem": {"bias": np.array([0.5, 1.25], np.float32)}},
}
TRAINING_IMAGES = training_images.digests(np.zeros((1, 32, 32, 1), np.uint8))
COUNTS = {"NORMAL": 30, "PNEUMONIA": 31}


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


def read_training_images(model, read=training_images.read):
    """Those of a file as they are; every run was trained on TRAINING_IMAGES."""
    return read(model) if model.endswith(".npz") else TRAINING_IMAGES


def patch(monkeypatch, meta=META):
    """Makes every run the tiny generator."""
    monkeypatch.setattr(training_images, "read", read_training_images)
    state = {name: {"params": params} for name, params in NETWORKS.items()}
    items = {"ema": tiny_generator.params().params, "state": state}
    monkeypatch.setattr(
        checkpoint, "load_item", lambda _, item, which: (items[item], meta)
    )


def write_card(path, card):
    """Writes a card of any schema, with the crc32 of its content."""
    path.write_text(json.dumps({**card, "crc32": json_crc32(card)}))
