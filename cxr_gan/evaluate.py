"""Compares generated images with real ones, and says what is wrong with them.

    python -m cxr_gan.evaluate --model=runs/acgan --dataset=path/to/chest_xray --out=DIR
    python -m cxr_gan.evaluate --images=FOLDER --dataset=path/to/chest_xray --out=DIR

DIR gets report.json, every figure with its interval and its floor, and report.html, one
page that needs no network. The same images, flags and kind of machine write the same
report.json. With --utility classifiers are taught on the images as well, which takes
minutes. The exit code is 3 if images are copied (see --most_copied), 1 if something is
wrong with what was given.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from cxr_gan import data, evaluation, given, hosts, judges, page, terminal
from cxr_gan.evaluation import utility
from cxr_gan.evaluation.figures import POOLED
from cxr_gan.evaluation.sides import Side
from cxr_gan.metrics import features
from cxr_gan.subject import Subject, labels_of, subject_of
from cxr_gan.version import __version__

COPIED = 3  # exit code
METHOD = (
    "Real images are halved by patient: B is what generated images are compared with; "
    "A stands in for a perfect generator, and its figures are the floors. A figure and "
    "its floor are of equally many images, n. Intervals are of 95 %, from drawing "
    "patients, not images; for distances half of them without replacement, since with "
    "replacement copies arise and FID is biased upward. Where the data set is the "
    "paediatric one the encoder `cxr` was taught on its half A, the judge of labels "
    "on half B: read figures in `cxr` against B."
)


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command: flags -> check -> evaluate -> write. Returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out = terminal.empty_folder(values.out)
        spaces = spaces_of(values.spaces)
        subject = subject_of(
            values.model, values.images, values.dataset, values.num, values.seed
        )
        size = subject.images.shape[1]
        dataset = data.load(values.dataset, size, split_seed=subject.split_seed)
        labels = labels_of(subject, dataset)
        seen = utility.training_set(dataset, subject.card) if values.utility else None
        real = evaluation.divide(dataset)
        judge = judges.judge_of(real.train, len(real.class_names))
        findings = evaluation.evaluate(
            subject.images, labels, real, spaces=spaces, judge=judge, seed=values.seed
        )
        used = None
        if seen is not None:
            used = use(subject, labels, seen, real, values.seed)
            figures = findings.figures | used.figures()
            findings = dataclasses.replace(findings, figures=figures)
        report = describe(subject, labels, dataset, real, findings, values)
        if used is not None:
            report["utility"] = used.report(real.class_names)
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


def use(
    subject: Subject, labels: np.ndarray, seen: Side, real: evaluation.Real, seed: int
) -> utility.Utility:
    """Whether images are of use; with few images of a class, also added to these."""
    return utility.utility(
        Side.of_generated(subject.images, labels),
        seen,
        Side.of_real(real.val),
        draw=subject.draw if utility.has_few(subject.card, seen) else None,
        seed=seed,
    )


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
    if subject.card is not None and subject.card.identity != dataset.identity:
        notes.append(
            "the model was trained on other images than the data set given holds; "
            "nothing is said of copies of its own training images"
        )

    if values.utility and subject.card is None:
        notes.append(
            "what the images' generator was trained on is not known; had it seen val, "
            "their utility would seem too good"
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
    flags.DEFINE_string(
        "model", None, "Workdir of a training, or a published model.", **own
    )
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
    flags.DEFINE_boolean(
        "utility",
        False,
        "Train classifiers on the images, test them on val, beside real images.",
        **own,
    )
    flags.DEFINE_integer(
        "num", 2000, "Images to draw from a model, all classes equally.", 1, **own
    )
    flags.DEFINE_integer("seed", 0, "Of all that is drawn.", 0, 2**32 - 1, **own)
    flags.DEFINE_boolean("multihost", False, hosts.FLAG, **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    app.call_after_init(terminal.hush)
    with hosts.ending():
        app.run(lambda argv: hosts.by_first(lambda: main(argv), flags.FLAGS.multihost))


if __name__ == "__main__":
    cli()
