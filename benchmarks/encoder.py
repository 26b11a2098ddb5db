"""Trains the encoder `cxr`, whose features the evaluation compares.

    python -m benchmarks.encoder --dataset=path/to/chest_xray --out=DIR

Writes cxr_encoder.npz and cxr_encoder.json to DIR, for the folder
cxr_gan/evaluation/metrics/weights. Training takes three minutes on one core; the same
data, flags and kind of machine give the same weights.

Three heads predict from the 64 features during training and are then discarded: one
predicts the class (with PNEUMONIA split into bacteria and virus by file names), one
reconstructs the image at 16 x 16 pixels, one predicts the exposure. Then the features
are rotated to their principal axes and scaled (see `decorrelated`), so that the class
does not outweigh all other properties. Only half A of the training patients is used;
the metrics on the card are measured on half B and on the patients of val.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from flax import linen as nn
from scipy import stats

from benchmarks.encoder_training import coarse, exposure, fit, predict
from cxr_gan import data
from cxr_gan.data.patients import patient_of
from cxr_gan.data.splits import in_half_a
from cxr_gan.evaluation.metrics import cxr_encoder
from cxr_gan.evaluation.metrics.batching import map_batches
from cxr_gan.evaluation.metrics.resize import to_unit
from cxr_gan.storage import weights_file

MIN_VARIANCE = 0.1  # of the mean variance; added to every axis, see `decorrelated`
PATHOGENS = ("bacteria", "virus")  # in the names of images of pneumonia

CARD: dict[str, Any] = {
    "what": "Weights of cxr_gan.evaluation.metrics.cxr_encoder.Encoder: 64 features of "
    "frontal chest radiographs, for comparing sets of images. Not for diagnosis.",
    "made_by": "python -m benchmarks.encoder --dataset=path/to/chest_xray --out=DIR",
    "data": {
        "title": "Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images "
        "for Classification",
        "authors": "Daniel Kermany, Kang Zhang, Michael Goldbaum",
        "year": 2018,
        "publisher": "Mendeley Data",
        "doi": "10.17632/rscbjbr9sj",
        "licence": "CC BY 4.0",
        "part": "chest radiographs of the official training part: children of one to "
        "five years, one centre (Guangzhou), frontal; resized to 64 px",
    },
    "half": "A of cxr_gan.data.splits, of the patients of train; none of val",
}


def kinds(images: data.ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """Classes split by pathogen: int32 [n] of each image, and their labels [kinds].

    Raises:
        ValueError: the names of the images are not those of the data set on the card.
    """
    patients = [patient_of(name) for name in images.ids]
    keys = []
    for name, label, patient in zip(images.ids, images.labels, patients, strict=True):
        if patient is None or patient[0] != "kermany":
            raise ValueError(
                f"{name!r} is not an image name of the data set this recipe is for "
                f"(doi:{CARD['data']['doi']}); give that data set as --dataset"
            )
        keys.append((int(label), patient[1] if patient[1] in PATHOGENS else ""))
    names = sorted(set(keys))
    kind_of_image = np.array([names.index(key) for key in keys], np.int32)
    return kind_of_image, np.array([label for label, _ in names])


def decorrelated(params: Any, images: np.ndarray) -> tuple[Any, Any]:
    """Params whose features are uncorrelated with mean 0 over images, and the inverse.

    Features are standardised, rotated to the axes of their correlation matrix, largest
    variance v first, and divided by sqrt(v + 0.1). Full whitening would amplify the
    axes of least variance, which are mostly noise. The inverse maps new features to
    those the heads were trained on.
    """
    features = cxr_encoder.encode(params, images).astype(np.float64)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    variances, axes = np.linalg.eigh(np.corrcoef(features.T))
    scale = np.sqrt(np.maximum(variances[::-1], 0) + MIN_VARIANCE)
    transform = axes[:, ::-1] / scale / deviation[:, None]
    inverse = np.linalg.inv(transform)
    last = params["features"]
    new_last = {
        "kernel": last["kernel"] @ transform,
        "bias": (last["bias"] - mean) @ transform,
    }
    return {**params, "features": new_last}, lambda new: new @ inverse + mean


def head_metrics(
    heads: Any, encode: Any, images: data.ImageSet, label_of_kind: np.ndarray
) -> Any:
    """Accuracy of the heads; `encode` maps uint8 images to the features they expect."""
    logits, image, light = predict(heads, encode(images.images))
    score = np.asarray(nn.softmax(logits))[:, label_of_kind == 1].sum(1)
    positive = images.labels == 1
    above = stats.mannwhitneyu(score[positive], score[~positive]).statistic

    def target(function: Callable[[jax.Array], jax.Array]) -> np.ndarray:
        return map_batches(
            lambda batch: function(to_unit(jnp.asarray(batch))), images.images
        )

    return {
        "images": len(images),
        "accuracy": round(float(((score > 0.5) == positive).mean()), 4),
        "auroc": round(float(above / (positive.sum() * (~positive).sum())), 4),
        "r2_of_image_drawn_again": r_squared(image, target(coarse)),
        "r2_of_exposure": r_squared(light, target(exposure)),
    }


def r_squared(predicted: Any, target: np.ndarray) -> float:
    """Fraction of the variance of target [n, ...] that the prediction explains."""
    return round(
        1 - float(((predicted - target) ** 2).mean() / target.var(0).mean()), 4
    )


def make(spec: str, out: pathlib.Path, seed: int) -> dict[str, Any]:
    """Trains, measures, writes both files; returns the card."""
    dataset = data.load(spec, cxr_encoder.SIZE, split_seed=0)
    in_a = in_half_a(dataset.train)
    a, b = dataset.train.take(in_a), dataset.train.take(~in_a)
    labels, label_of_kind = kinds(a)
    params = fit(a.images, labels, len(label_of_kind), seed)
    weights, inverse = decorrelated(params["encoder"], a.images)
    packed = weights_file.pack(weights, np.float16)
    # Measure the rounded weights, which is what users load.
    weights = weights_file.unpack(packed, params["encoder"], cxr_encoder.NAME)

    def encode(images: np.ndarray) -> np.ndarray:
        return inverse(cxr_encoder.encode(weights, images))

    card = {
        **CARD,
        "split_seed": 0,
        "seed": seed,
        "made_with": {"jax": jax.__version__, "numpy": np.__version__},
        "held_out": {
            "val": head_metrics(params["heads"], encode, dataset.val, label_of_kind),
            "half B": head_metrics(params["heads"], encode, b, label_of_kind),
        },
        "sha256": hashlib.sha256(packed).hexdigest(),
        "images": len(a),
        "patients": sorted(
            {" ".join(map(str, patient_of(name) or ())) for name in a.ids}
        ),
    }
    weights_file.write(out / f"{cxr_encoder.NAME}.npz", packed)
    text = json.dumps(card, indent=1) + "\n"
    weights_file.write(out / f"{cxr_encoder.NAME}.json", text.encode())
    return card


def main(argv: Sequence[str]) -> None:
    """Trains the encoder and prints its card, without the list of patients."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; see --help")
    logging.set_verbosity(logging.WARNING)
    values = flags.FLAGS
    try:
        card = make(values.dataset, pathlib.Path(values.out), values.seed)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(json.dumps({**card, "patients": len(card["patients"])}, indent=1))


if __name__ == "__main__":
    flags.DEFINE_string("dataset", None, "Folder with train and val.", required=True)
    flags.DEFINE_string("out", None, "Folder for weights and card.", required=True)
    flags.DEFINE_integer("seed", 0, "Seed of weights, data order and augmentation.")
    app.run(main)
