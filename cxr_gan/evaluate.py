"""Compares generated images with real ones, and says what is wrong with them.

    python -m cxr_gan.evaluate --model=runs/acgan --dataset=path/to/chest_xray --out=DIR
    python -m cxr_gan.evaluate --images=FOLDER --dataset=path/to/chest_xray --out=DIR

DIR gets report.json, every figure with its interval and its floor, and report.html, one
page that needs no network. The same images, flags and kind of machine write the same
report.json. The exit code is 3 if images are copied (see --most_copied), 1 if something
is wrong with what was given.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from cxr_gan import data, evaluation, given, images, judges, page, sampling, terminal
from cxr_gan.evaluation.figures import POOLED
from cxr_gan.metrics import features
from cxr_gan.version import __version__

COPIED = 3  # exit code
SPLIT_SEED = 0  # of the held-out tenth, where no run says another
METHOD = (
    "Real images are halved by patient: B is what generated images are compared with; "
    "A stands in for a perfect generator, and its figures are the floors. A figure and "
    "its floor are of equally many images, n. Intervals are of 95 %, from drawing "
    "patients, not images; for distances half of them without replacement, since with "
    "replacement copies arise and FID is biased upward. Where the data set is the "
    "paediatric one the encoder `cxr` was taught on its half A, the judge of labels "
    "on half B: read figures in `cxr` against B."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """Whose images they are, and what is known of them."""

    images: np.ndarray  # uint8 [n, s, s, 1]
    classes: given.Given | np.ndarray  # what knows the labels, or they: int32 [n]
    split_seed: int
    about: dict[str, Any]  # for JSON
    trained_on: str | None = None  # the data's identity; None where it is not known


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command: flags -> check -> evaluate -> write. Returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out = terminal.empty_folder(values.out)
        spaces = spaces_of(values.spaces)
        subject = subject_of(values)
        size = subject.images.shape[1]
        dataset = data.load(values.dataset, size, split_seed=subject.split_seed)
        labels = labels_of(subject, dataset)
        real = evaluation.divide(dataset)
        judge = judges.judge_of(real.train, len(real.class_names))
        findings = evaluation.evaluate(
            subject.images, labels, real, spaces=spaces, judge=judge, seed=values.seed
        )
        report = describe(subject, labels, dataset, real, findings, values)
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (out / "report.json").write_text(text, encoding="utf-8")
        html = page.render(
            report, page.pictures(subject.images, labels, real, findings)
        )
        (out / "report.html").write_text(html, encoding="utf-8")
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page.summary(report))
    print(f"wrote report.json and report.html to {out}")
    print(report["verdict"])
    most = values.most_copied
    if most is not None and evaluation.copied(findings.figures, most):
        return COPIED
    return 0


def spaces_of(spec: str) -> list[features.FeatureSpace]:
    """cxr,texture -> the spaces, each opened.

    Raises:
        ValueError, FileNotFoundError, ImportError: as `features.space`; one is twice.
    """
    names = [name.strip() for name in spec.split(",")]
    if len(set(names)) < len(names):
        raise ValueError(f"--spaces={spec} names one twice")
    return [features.space(name) for name in names]


def subject_of(values: flags.FlagValues) -> Subject:
    """Draws from the model, or reads the images.

    Raises:
        ValueError, OSError: neither or both are given, or one cannot be used.
    """
    if (values.model is None) == (values.images is None):
        raise ValueError("give either --model=RUN or --images=FOLDER_OR_NPZ")
    if values.model is not None:
        return _of_model(values.model, values.num, values.seed)
    here = pathlib.Path(values.images).expanduser().resolve()
    there = pathlib.Path(values.dataset.removeprefix("folder:")).expanduser().resolve()
    if here == there or there in here.parents or here in there.parents:
        raise ValueError(
            f"--images={values.images} and --dataset={values.dataset} are one folder; "
            "give generated images: real ones would only be compared with themselves"
        )
    read = given.read(values.images)
    about = {"from": "images", "path": values.images}
    return Subject(read.images, read, SPLIT_SEED, about)


def _of_model(workdir: str, num: int, seed: int) -> Subject:
    params, meta = sampling.load_with_meta(workdir)
    size = params.spec.resolution
    if size < given.SMALLEST:
        raise ValueError(
            f"--model={workdir} draws images of {size} px; at least {given.SMALLEST} "
            "are needed"
        )
    labels = np.arange(num, dtype=np.int32) % len(params.class_names)
    drawn = images.to_uint8(sampling.sample(params, labels, seed))
    about = {
        "from": "model",
        "path": workdir,
        "model_hash": sampling.fingerprint(params),
        "step": meta["step"],
        "kimg": meta["kimg"],
        "class_names": list(params.class_names),
        "dataset": meta["dataset"],
    }
    split_seed, identity = meta["config"]["split_seed"], meta["dataset"]["identity"]
    return Subject(drawn, labels, split_seed, about, identity)


def labels_of(subject: Subject, dataset: data.Dataset) -> np.ndarray:
    """int32 [n], as the data set counts its classes.

    Raises:
        ValueError: classes of images and data set are not the same.
    """
    if isinstance(subject.classes, given.Given):
        return subject.classes.labels(dataset.class_names)
    names = subject.about["class_names"]
    if names != list(dataset.class_names):
        raise ValueError(
            f"the model draws {', '.join(names)}; the data set has "
            f"{', '.join(dataset.class_names)}: give the one it was trained on"
        )
    return subject.classes


def describe(
    subject: Subject,
    labels: np.ndarray,
    dataset: data.Dataset,
    real: evaluation.Real,
    findings: evaluation.Findings,
    values: flags.FlagValues,
) -> dict[str, Any]:
    """report.json: no times, no durations, nothing that two evaluations differ in."""
    notes = list(findings.notes)
    if subject.trained_on not in (None, dataset.identity):
        notes.append(
            "the model was trained on other images than the data set given holds; "
            "nothing is said of copies of its own training images"
        )

    def counts(label: np.ndarray) -> dict[str, int]:
        each = np.bincount(label, minlength=len(real.class_names)).tolist()
        return dict(zip(real.class_names, each, strict=True))

    digest = hashlib.sha256(subject.images.tobytes() + labels.tobytes()).hexdigest()
    halves = {"A": real.train.labels[real.in_a], "B": real.train.labels[~real.in_a]}
    return {
        "verdict": findings.verdict,
        "faults": findings.faults,
        "notes": notes,
        "images": {**subject.about, "sha256": digest, "counts": counts(labels)},
        "dataset": {
            "name": values.dataset,
            "identity": dataset.identity,
            "split_seed": subject.split_seed,
            "duplicates_dropped": real.dropped,
            "counts": {
                name: counts(label)
                for name, label in {**halves, "val": real.val.labels}.items()
            },
        },
        "resolution": subject.images.shape[1],
        "class_names": list(real.class_names),
        "pooled": POOLED,
        "seed": values.seed,
        "spaces": values.spaces.split(","),
        "method": METHOD,
        "figures": findings.rows(),
        "nearest_pairs": {
            view: [
                {"generated": int(i), "train": real.train.ids[j], "distance": float(d)}
                for i, j, d in zip(
                    pairs.generated, pairs.train, pairs.distance, strict=True
                )
            ]
            for view, pairs in findings.pairs.items()
        },
        "software": {"cxr_gan": __version__, "jax": jax.__version__},
    }


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, since another command may call its flags the same."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", None, "Workdir of a training to draw from.", **own)
    flags.DEFINE_string("images", None, f"Images: {given.LAYOUTS}.", **own)
    flags.DEFINE_string(
        "dataset", None, "Real images: as config.dataset of a training.", **own
    )
    flags.DEFINE_string("out", None, "New folder to write to.", **own)
    flags.DEFINE_string(
        "spaces",
        "cxr,texture",
        "Where distances are taken: cxr, texture, onnx:FILE, with commas between.",
        **own,
    )
    flags.DEFINE_float(
        "most_copied",
        None,
        "Exit with 3 if the share of images nearer to a training image than 99 % of "
        "held-out ones is above this, or if there is an exact or near copy.",
        0.0,
        1.0,
        **own,
    )
    flags.DEFINE_integer(
        "num", 2000, "Images to draw from a model, all classes equally.", 1, **own
    )
    flags.DEFINE_integer("seed", 0, "Of all that is drawn.", 0, 2**32 - 1, **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    app.call_after_init(terminal.hush)
    app.run(main)


if __name__ == "__main__":
    cli()
