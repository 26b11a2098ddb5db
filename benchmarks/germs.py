r"""Whether a generator produces both bacterial and viral pneumonia.

    python -m benchmarks.germs --model=pediatric64 --dataset=path/to/chest_xray \
      --out=quality.md

The two look different. Labels do not distinguish them, but file names of the data set
do. A classifier of the pathogen is trained on half B of the patients and applied to
generated images of pneumonia and to real ones of half A. Because the classifier makes
errors, its result on real images is the reference. Coverage tells how many images of
half B of each pathogen have a generated image near them. A picture in the folder of the
page shows the generated images with the most certain predictions.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging
from PIL import Image

from benchmarks import pages
from benchmarks.encoder import GERMS
from cxr_gan import data
from cxr_gan.data import splits
from cxr_gan.evaluation import image_sets
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.metrics import (
    confidence_intervals,
    feature_spaces,
    label_classifier,
)
from cxr_gan.evaluation.metrics.precision_recall import prdc
from cxr_gan.models import pixel_range
from cxr_gan.sampling import sampler
from cxr_gan.storage import image_grid

MARK = "germs"
SPACES = ("cxr", "texture")
DRAWS = 1000  # bootstrap samples of patients for one interval
SHOWN = 16  # generated images of each pathogen in the picture, in two rows


def germs_of(real: data.ImageSet) -> tuple[data.ImageSet, np.ndarray]:
    """The images whose names contain a pathogen, and its index in `GERMS`, int32 [n].

    Raises:
        ValueError: there is no image of one pathogen.
    """
    patients = [splits.patient_of(name) for name in real.ids]
    names = [patient[1] if patient else "" for patient in patients]
    known = np.isin(names, GERMS)
    germs = np.array([GERMS.index(name) for name in names if name in GERMS], np.int32)
    for index, name in enumerate(GERMS):
        if index not in germs:
            raise ValueError(
                f"--dataset: no image of half A or B is named after {name}, such as "
                f"person1_{name}_1.jpeg; only names of the paediatric set "
                "contain pathogens"
            )
    return real.take(known), germs


def measure(
    generated: np.ndarray, real: image_sets.ReferenceSplits, steps: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Compares generated images of pneumonia, uint8 [n, s, s, 1], with real ones.

    Coverage depends on the number of images, so its reference uses n random images of
    half A.

    Returns:
        The results (see `text`), and the probability that each generated image is
        viral, [n].

    Raises:
        ValueError: a half has no image of a pathogen, or half A has fewer than n.
    """
    train = real.train
    half_a, germs_a = germs_of(train.take(real.in_a))
    half_b, germs_b = germs_of(train.take(~real.in_a))
    n = len(generated)
    if len(half_a) < n:
        raise ValueError(
            f"half A has {len(half_a)} images of either pathogen, fewer than the {n} "
            f"generated; give --num={len(half_a)} or fewer"
        )
    subset = half_a.images[np.random.default_rng(0).permutation(len(half_a))[:n]]
    classifier = label_classifier.fit(
        half_b.images, germs_b, len(GERMS), 0, steps=steps
    )
    viral_a = label_classifier.predict(classifier, half_a.images)[:, 1]
    viral = label_classifier.predict(classifier, generated)[:, 1]
    correct = (viral_a > 0.5) == germs_a
    patients = ImageGroup.from_image_set(half_a).patients
    return {
        "images": n,
        "viral": {
            "generated": share(viral > 0.5, np.arange(n)),
            "real": share(viral_a > 0.5, patients),
        },
        "accuracy": {
            name: share(correct[germs_a == germ], patients[germs_a == germ])
            for germ, name in enumerate(GERMS)
        },
        "coverage": {
            space: coverage(space, generated, subset, half_b.images, germs_b)
            for space in SPACES
        },
    }, viral


def share(hits: np.ndarray, patients: np.ndarray) -> list[float]:
    """Share of hits, bool [n], and its 95 % interval from a bootstrap over patients."""
    ends = confidence_intervals.share_interval(hits, patients, draws=DRAWS, seed=0)
    return [float(hits.mean()), *ends]


def coverage(
    space: str,
    generated: np.ndarray,
    reference: np.ndarray,
    real: np.ndarray,
    germs: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Coverage of real images of each pathogen, in [0, 1]; see `prdc`.

    Args:
        space: name of the feature space.
        generated: uint8 [n, s, s, 1].
        reference: as many real images of other patients, uint8 [n, s, s, 1].
        real: the real images to cover, uint8 [m, s, s, 1].
        germs: their pathogens, int32 [m].

    Returns:
        {"bacteria": {"generated": ..., "real": ...}, ...}; "real" is the coverage by
        `reference`.
    """
    extract = feature_spaces.open_space(space).extract
    sets = {"generated": extract(generated), "real": extract(reference)}
    features = extract(real)
    return {
        name: {
            key: prdc(own, features[germs == germ]).coverage
            for key, own in sets.items()
        }
        for germ, name in enumerate(GERMS)
    }


def picture(generated: np.ndarray, viral: np.ndarray) -> np.ndarray:
    """Grid of the most certain predictions, two rows per pathogen; uint8 [h, w].

    generated is uint8 [n, s, s, 1]; viral is the predicted probability, float [n].
    """
    order = np.argsort(viral, kind="stable")
    selected = np.concatenate([order[:SHOWN], order[::-1][:SHOWN]])
    rows = generated[selected].reshape(4, SHOWN // 2, *generated.shape[1:])
    return image_grid.make_grid(rows, [name for name in GERMS for _ in range(2)])


def text(results: dict[str, Any]) -> str:
    """The results as Markdown."""

    def percent(estimate: list[float]) -> str:
        value, low, high = (f"{100 * x:.0f}" for x in estimate)
        return f"{value} % ({low} to {high})"

    viral, accuracy = results["viral"], results["accuracy"]
    rows = [["predicted as viral", percent(viral["generated"]), percent(viral["real"])]]
    for space, of_germ in results["coverage"].items():
        for name, values in of_germ.items():
            pair = [f"{values[key]:.3f}" for key in ("generated", "real")]
            rows.append([f"coverage of images of {name} in half B, {space}", *pair])
    head = ["", "generated", "real images of other patients (half A)"]
    accuracies = ", ".join(f"{name} {percent(accuracy[name])}" for name in GERMS)
    return (
        f"{pages.table(head, rows)}\n{results['images']:,} generated images of "
        f"pneumonia. Accuracy of the classifier on half A: {accuracies}.\n"
    )


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Writes the table and the picture; returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        page = pathlib.Path(values.out)
        pages.earlier(page, MARK)
        params = sampler.load(values.model)
        if values.label not in params.class_names:
            names = ", ".join(params.class_names)
            raise ValueError(
                f"--label={values.label}: not a class of the model; give one of {names}"
            )
        dataset = data.load(values.dataset, params.config.resolution, split_seed=0)
        real = image_sets.split_reference(dataset)
        labels = [values.label] * values.num
        generated = pixel_range.to_uint8(sampler.sample(params, labels, values.seed))
        results, viral = measure(generated, real, values.steps)
        pages.write(page, results, MARK, text)
        png = page.with_name(f"{MARK}.png")
        Image.fromarray(picture(generated, viral)).save(png)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {page}, {pages.file_of(page, MARK)} and {png}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """A function, so that tests can define the flags on their own FlagValues."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string(
        "model", None, "Model, written as --model of cxr_gan.generate.", **own
    )
    flags.DEFINE_string(
        "dataset", None, "Real images, written as config.dataset.", **own
    )
    flags.DEFINE_string("out", None, "Markdown page with the marks.", **own)
    flags.DEFINE_string(
        "label", "PNEUMONIA", "The class that both pathogens belong to.", **own
    )
    flags.DEFINE_integer("num", 1_000, "Images to generate.", SHOWN, **own)
    flags.DEFINE_integer("seed", 0, "Seed of the latents.", 0, 2**32 - 1, **own)
    flags.DEFINE_integer(
        "steps", label_classifier.STEPS, "Training steps of the classifier.", 1, **own
    )
    flags.mark_flags_as_required(["model", "dataset", "out"], **own)


def cli() -> None:
    """Entry point of the command line."""
    define_flags()
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
