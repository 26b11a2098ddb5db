"""Compares generated images with real images and reports faults.

    python -m cxr_gan.evaluate --model=runs/acgan --dataset=path/to/chest_xray --out=DIR
    python -m cxr_gan.evaluate --images=FOLDER --dataset=path/to/chest_xray --out=DIR

Writes DIR/report.json, every metric with its 95 % interval and real-data reference, and
DIR/report.html, a self-contained page. The same images and flags on the same kind of
machine give the same report.json. With --utility, classifiers are also trained on the
images, which takes minutes. Exit codes: 0 success, 1 invalid input, 3 images are copied
(see --most_copied).
"""

import dataclasses
import functools
import hashlib
import json
from typing import Any

import jax
import numpy as np
from absl import flags

from cxr_gan.evaluation import (
    evaluator,
    image_input,
    image_sets,
    label_classifier_cache,
    utility,
)
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.inputs import (
    EvaluationInput,
    open_input,
    training_set,
)
from cxr_gan.evaluation.metrics import feature_spaces
from cxr_gan.evaluation.report import (
    import_matplotlib,
    pictures,
    render,
    summary,
)
from cxr_gan.evaluation.results import POOLED, to_rows
from cxr_gan.runtime import cli, multihost
from cxr_gan.storage import files
from cxr_gan.version import __version__

EXIT_COPIED = 3  # exit code
METHOD = (
    "The real training images are split by patient into halves A and B. Generated "
    "images are compared with B. The real-data reference of a metric is its value for "
    "A in place of the generated images, which a perfect generator would reach; a "
    "metric and its reference use equally many images, n. The 95 % intervals resample "
    "patients rather than images. Those of feature distances draw half of the patients "
    "without replacement, because drawing with replacement duplicates images, which "
    "biases FID upward. On the paediatric data set, the encoder `cxr` was trained on "
    "half A and the label classifier on half B: use the comparisons with B for metrics "
    "in `cxr`."
)


@cli.command(example="--dataset=path/to/chest_xray")
def main(values: flags.FlagValues) -> int:
    """Checks the flags, evaluates and writes both reports. Returns the exit code."""
    out = cli.new_output_folder(values.out)
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)  # before the work: it may not be possible
    try:
        report, html, copied = evaluate(values)
    except BaseException:
        if is_new:
            out.rmdir()
        raise
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (out / "report.json").write_text(text, encoding="utf-8")
    (out / "report.html").write_text(html, encoding="utf-8")
    print(summary(report))
    print(f"wrote report.json and report.html to {out}")
    print(report["verdict"])
    return EXIT_COPIED if copied else 0


def evaluate(values: flags.FlagValues) -> tuple[dict[str, Any], str, bool]:
    """Content of report.json, report.html, and whether --most_copied is exceeded.

    Raises:
        OSError, ValueError, ImportError: the images, the data set or a feature space
            cannot be used, or do not fit each other.
    """
    import_matplotlib()  # before the work: it may not be possible
    spaces = open_spaces(values.spaces)
    source = open_input(
        values.model, values.images, values.dataset, values.num, values.seed
    )
    if POOLED in source.dataset.class_names:
        raise ValueError(f"a class is named {POOLED!r}, as the pooled rows; rename it")
    train = training_set(source) if values.utility else None
    real = image_sets.split_reference(source.dataset)
    classifier = label_classifier_cache.load_or_fit(real.train, len(real.class_names))
    result = evaluator.evaluate(
        source.images,
        source.labels,
        real,
        spaces=spaces,
        classifier=classifier,
        seed=values.seed,
    )
    added = {}
    if train is not None:
        # If training was limited to fewer images of one class than of another,
        # generated images are also added to the few images of that class.
        unequal = np.ptp(np.bincount(train.labels)) > 0
        estimates, added["utility"] = utility.utility(
            ImageGroup.from_generated(source.images, source.labels),
            train,
            ImageGroup.from_image_set(real.val),
            real.class_names,
            draw=source.draw if any(source.samples_per_class) and unequal else None,
            seed=values.seed,
        )
        result = dataclasses.replace(result, estimates=result.estimates | estimates)
    report = make_report(source, real, result, values) | added
    html = render(report, pictures(source.images, source.labels, real, result))
    limit = values.most_copied
    copied = limit is not None and evaluator.exceeds_copy_limit(result.estimates, limit)
    return report, html, copied


def open_spaces(spec: str) -> list[feature_spaces.FeatureSpace]:
    """The feature spaces named in a comma-separated list, such as "cxr,texture".

    Raises:
        ValueError, FileNotFoundError, ImportError: as `feature_spaces.open_space`; a
            name occurs twice.
    """
    names = [name.strip() for name in spec.split(",")]
    if len(set(names)) < len(names):
        raise ValueError(f"--spaces={spec}: a name occurs twice; give each space once")
    return [feature_spaces.open_space(name) for name in names]


def make_report(
    source: EvaluationInput,
    real: image_sets.ReferenceSplits,
    result: evaluator.EvaluationResult,
    values: flags.FlagValues,
) -> dict[str, Any]:
    """Content of report.json; without times: equal inputs give equal reports."""
    notes = [f"--images: {note}" for note in source.notes]
    ranges = image_input.compare_ranges(source.images, source.dataset.train.images)
    notes += [*([ranges] if ranges else []), *result.notes]
    if source.trained_on not in (None, source.dataset.identity):
        notes.append(
            "the model was trained on other images than this data set contains; copies "
            "of its own training images are not detected"
        )
    if values.utility and source.trained_on is None:
        notes.append(
            "the training images of the generator are unknown; if they include val, "
            "the utility is overestimated"
        )

    def counts(label: np.ndarray) -> dict[str, int]:
        each = np.bincount(label, minlength=len(real.class_names)).tolist()
        return dict(zip(real.class_names, each, strict=True))

    content = source.images.tobytes() + source.labels.tobytes()
    origin = {**source.metadata, "sha256": hashlib.sha256(content).hexdigest()}
    halves = {"A": real.train.labels[real.in_a], "B": real.train.labels[~real.in_a]}
    return {
        "verdict": result.verdict,
        "faults": result.faults,
        "notes": notes,
        "images": {**origin, "counts": counts(source.labels)},
        "dataset": {
            "name": files.last_name(values.dataset),
            "identity": source.dataset.identity,
            "split_seed": source.split_seed,
            "duplicates_dropped": real.dropped,
            "counts": {
                name: counts(label)
                for name, label in {**halves, "val": real.val.labels}.items()
            },
        },
        "resolution": source.images.shape[1],
        "class_names": list(real.class_names),
        "pooled": POOLED,
        "seed": values.seed,
        "spaces": values.spaces.split(","),
        "method": METHOD,
        "metrics": to_rows(result.estimates),
        "nearest_pairs": {
            view: [
                # Not the id: ids are names of files, which may name patients.
                {"generated": i, "train": int(real.rows[j]), "distance": distance}
                for i, j, distance in pairs
            ]
            for view, pairs in result.nearest_pairs.items()
        },
        "software": {"cxr_gan": __version__, "jax": jax.__version__},
    }


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; not at import, because other commands share flag names."""
    own: dict[str, Any] = {"flag_values": values}
    text = functools.partial(flags.DEFINE_string, **own)
    text(
        "model",
        None,
        "Model to sample images from: workdir of a training run, or a published model.",
    )
    text("images", None, f"Images to evaluate: {image_input.LAYOUTS}.")
    text("dataset", None, "Real images, as in config.dataset of a training run.")
    text("out", None, "New or empty folder to write to.")
    text(
        "spaces",
        "cxr,texture",
        "Feature spaces of the distances, comma-separated: cxr, texture, onnx:FILE.",
    )
    most_copied = (
        "Exit with code 3 if the share of images nearer to a training image than 99 % "
        "of held-out images exceeds this, or if there is an exact or near copy."
    )
    flags.DEFINE_float("most_copied", None, most_copied, 0.0, 1.0, **own)
    utility_help = (
        "Also train classifiers on the images and on real images, and compare them on "
        "val."
    )
    flags.DEFINE_boolean("utility", False, utility_help, **own)
    num = "Number of images to sample from a model, equally many of each class."
    flags.DEFINE_integer("num", 2000, num, 1, **own)
    flags.DEFINE_integer("seed", 0, "Seed of all random choices.", 0, 2**32 - 1, **own)
    flags.DEFINE_boolean("multihost", False, multihost.FLAG_HELP, **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
