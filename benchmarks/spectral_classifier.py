"""Measures how well a linear classifier of power spectra finds generated images.

    python -m benchmarks.spectral_classifier --model=pediatric64 \
      --dataset=path/to/chest_xray --out=spectral_classifier.json

For each class, a logistic regression separates generated images from real ones of half
A, and is tested on other generated images and on half B, which has other patients; then
A and B change places. The AUROC is the mean of both tests. Chance level, 0.5, is also
that of real images of other patients in place of the generated ones. The input of the
classifier is the logarithm of each image's power in rings and pixel patterns
(`power_spectrum.profiles`), or at all frequencies.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import command_line
from cxr_gan import data
from cxr_gan.evaluation import image_sets
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.metrics import power_spectrum
from cxr_gan.evaluation.metrics.batching import map_batches
from cxr_gan.evaluation.utility import auroc
from cxr_gan.models import pixel_range
from cxr_gan.runtime import process
from cxr_gan.sampling import sampler


def all_frequencies(images: np.ndarray) -> np.ndarray:
    """Power at each frequency, up to the sign: uint8 [n, s, s, 1] -> float64 [n, d]."""
    half = images.shape[1] // 2 + 1

    def flat(batch: np.ndarray) -> np.ndarray:
        return power_spectrum.spectra(batch)[:, :, :half].reshape(len(batch), -1)

    return map_batches(flat, images, power_spectrum.IMAGES_PER_BATCH)


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rings and patterns": power_spectrum.profiles,
    "all frequencies": all_frequencies,
}


def classify(
    power: Callable[[np.ndarray], np.ndarray],
    generated: ImageGroup,
    halves: tuple[ImageGroup, ImageGroup],
) -> auroc.AurocEstimate:
    """AUROC of generated against real images of one class, with its interval.

    Args:
        power: function of FEATURES.
        generated: of half of them a classifier learns, the other half is the test.
        halves: real images of different patients.
    """
    features = {
        group: np.log(np.maximum(power(group.images), power_spectrum.FLOOR))
        for group in (generated, *halves)
    }
    middle = len(generated) // 2
    learned, tested = features[generated][:middle], features[generated][middle:]
    total = np.zeros(1 + auroc.DRAWS)
    # Both tests have the same generated images, and draw them alike.
    rest = generated.patients[middle:]
    drawn = auroc.draw_bootstrap(np.zeros(len(rest)), rest, 2, 0).images
    for real, other in (halves, halves[::-1]):
        # The penalty grows with the number of features.
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=2 / learned.shape[1], max_iter=1000),
        )
        model.fit(
            np.concatenate([features[real], learned]),
            np.repeat([0, 1], [len(real), len(learned)]),
        )
        scores = model.decision_function(np.concatenate([features[other], tested]))
        is_generated = np.arange(len(scores)) >= len(other)
        weights = auroc.draw_bootstrap(np.zeros(len(other)), other.patients, 2, 1)
        weights = np.concatenate([weights.images, drawn], 1)
        total += auroc.auroc(scores, is_generated, weights) / 2
    return auroc.estimate(total)


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Classifies the images of each class."""
    process.enable_compilation_cache()
    params, meta = sampler.load_with_meta(values.model)
    dataset = data.load(
        values.dataset,
        params.config.resolution,
        split_seed=meta["config"]["split_seed"],
    )
    if params.class_names != dataset.class_names:
        raise ValueError(
            f"the model generates {', '.join(params.class_names)}; the data set has "
            f"{', '.join(dataset.class_names)}: give the data set of the model"
        )
    groups = image_sets.split_reference(dataset).image_groups()
    results: dict[str, Any] = {name: {} for name in FEATURES}
    for label, name in enumerate(params.class_names):
        n = min(values.num, *(int(np.sum(groups[h].labels == label)) for h in "AB"))
        halves = [
            ImageGroup(group.images[rows], group.labels[rows], group.patients[rows])
            for group in (groups["A"], groups["B"])
            for rows in [group.select((label,), n, seed=0)]
        ]
        labels = np.full(2 * n, label)
        images = pixel_range.to_uint8(sampler.sample(params, labels, values.seed))
        generated = ImageGroup.from_generated(images, labels)
        for features, power in FEATURES.items():
            found = classify(power, generated, (halves[0], halves[1]))
            results[features][name] = {"n": n, **found._asdict()}
    rows = [
        [features, name, f"{x['value']:.2f} ({x['low']:.2f} to {x['high']:.2f})"]
        for features, classes in results.items()
        for name, x in classes.items()
    ]
    head = ["power", "class", "AUROC"]
    return results, command_line.table(head, rows)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", "pediatric64", "Run or published model.", **own)
    flags.DEFINE_string("dataset", None, "The data set that it was trained on.", **own)
    flags.DEFINE_integer("num", 1000, "Most images of a class and half.", 16, **own)
    flags.DEFINE_integer("seed", 0, "Seed of the generated images.", **own)
    flags.mark_flag_as_required("dataset", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
