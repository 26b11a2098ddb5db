"""Makes the encoder whose features the evaluation compares image sets in.

    python -m benchmarks.encoder --dataset=path/to/chest_xray --out=DIR

DIR gets cxr_encoder.npz and cxr_encoder.json, for cxr_gan/metrics/weights. One core
takes three minutes; the same data, flags and kind of machine give the same weights.

Three heads read the 64 features while they are learnt, and are thrown away: one tells
the class (with PNEUMONIA parted into bacteria and virus, as file names tell), one draws
the image again at 16 x 16 pixels, one tells the exposure. Then the features are turned
to their principal axes, and each is divided by its spread, so that the class does not
outweigh all else. Of the training patients only half A is used; half B and the
validation patients are what the figures on the card are measured on.
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

from benchmarks.teaching import coarse, exposure, fit, tell
from cxr_gan import data
from cxr_gan.data import splits
from cxr_gan.data.halves import halves
from cxr_gan.metrics import encoder, stored
from cxr_gan.metrics.chunks import over_chunks
from cxr_gan.metrics.resize import to_unit

LEAST_SHARE = 0.1  # of the mean variance: axes of less count less (`decorrelated`)
GERMS = ("bacteria", "virus")  # as names of images with pneumonia tell

CARD: dict[str, Any] = {
    "what": "Weights of cxr_gan.metrics.encoder.Encoder: 64 features of frontal chest "
    "radiographs, for comparing sets of images. Not for diagnosis.",
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
    "half": "A of cxr_gan.data.halves, of the patients of train; none of val",
}


def kinds(images: data.ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """The finer classes: int32 [n] of each image, and the label of each kind, [kinds].

    Raises:
        ValueError: the names of the images are not those of the data on the card.
    """
    patients = [splits.patient_of(name) for name in images.ids]
    wrong = [
        name
        for name, patient in zip(images.ids, patients, strict=True)
        if patient is None or patient[0] != "kermany"
    ]
    if wrong:
        raise ValueError(
            f"{wrong[0]!r} is no name of the data this recipe and its card are of "
            f"(doi:{CARD['data']['doi']}); see --dataset"
        )
    told = [
        (int(label), patient[1] if patient and patient[1] in GERMS else "")
        for label, patient in zip(images.labels, patients, strict=True)
    ]
    names = sorted(set(told))
    of_image = np.array([names.index(kind) for kind in told], np.int32)
    return of_image, np.array([label for label, _ in names])


def decorrelated(params: Any, images: np.ndarray) -> tuple[Any, Any]:
    """Weights whose features have mean 0 and stand alone over images, and the undoing.

    From features in units of their deviations to the axes of their correlations,
    largest variance v first, each divided by the root of v + 0.1: full whitening would
    blow up what varies least, mostly noise. The undoing leads to what the heads know.
    """
    read = encoder.encode(params, images).astype(np.float64)
    mean, spread = read.mean(0), read.std(0) + 1e-6
    variances, axes = np.linalg.eigh(np.corrcoef(read.T))
    scale = np.sqrt(np.maximum(variances[::-1], 0) + LEAST_SHARE)
    there = axes[:, ::-1] / scale / spread[:, None]
    back = np.linalg.inv(there)
    last = params["features"]
    turned = {"kernel": last["kernel"] @ there, "bias": (last["bias"] - mean) @ there}
    return {**params, "features": turned}, lambda new: new @ back + mean


def figures(heads: Any, read: Any, images: data.ImageSet, of_kind: np.ndarray) -> Any:
    """How well the heads do on images, by `read`: uint8 images -> their features."""
    logits, drawn, lit = tell(heads, read(images.images))
    sick = np.asarray(nn.softmax(logits))[:, of_kind == 1].sum(1)
    ill = images.labels == 1
    above = stats.mannwhitneyu(sick[ill], sick[~ill]).statistic

    def truth(of: Callable[[jax.Array], jax.Array]) -> np.ndarray:
        return over_chunks(lambda some: of(to_unit(jnp.asarray(some))), images.images)

    return {
        "images": len(images),
        "accuracy": round(float(((sick > 0.5) == ill).mean()), 4),
        "auroc": round(float(above / (ill.sum() * (~ill).sum())), 4),
        "r2_of_image_drawn_again": explained(drawn, truth(coarse)),
        "r2_of_exposure": explained(lit, truth(exposure)),
    }


def explained(guess: Any, truth: np.ndarray) -> float:
    """The share of the variance of truth [n, ...] that guess explains."""
    return round(1 - float(((guess - truth) ** 2).mean() / truth.var(0).mean()), 4)


def make(dataset: str, out: pathlib.Path, seed: int) -> dict[str, Any]:
    """Trains, measures, writes both files; returns the card."""
    found = data.load(dataset, encoder.SIZE, split_seed=0)
    in_a = halves(found.train.ids)
    a, b = found.train.take(in_a), found.train.take(~in_a)
    labels, of_kind = kinds(a)
    params = fit(a.images, labels, len(of_kind), seed)
    weights, undo = decorrelated(params["encoder"], a.images)
    packed = stored.pack(weights, np.float16)
    # What is measured is what will be read, rounded.
    weights = stored.unpack(packed, params["encoder"], encoder.NAME)

    def read(images: np.ndarray) -> np.ndarray:
        return undo(encoder.encode(weights, images))

    card = {
        **CARD,
        "split_seed": 0,
        "seed": seed,
        "made_with": {"jax": jax.__version__, "numpy": np.__version__},
        "held_out": {
            "val": figures(params["heads"], read, found.val, of_kind),
            "half B": figures(params["heads"], read, b, of_kind),
        },
        "sha256": hashlib.sha256(packed).hexdigest(),
        "images": len(a),
        "patients": sorted(
            {" ".join(map(str, splits.patient_of(name) or ())) for name in a.ids}
        ),
    }
    stored.write(out / f"{encoder.NAME}.npz", packed)
    text = json.dumps(card, indent=1) + "\n"
    stored.write(out / f"{encoder.NAME}.json", text.encode())
    return card


def main(argv: Sequence[str]) -> None:
    """The command."""
    if argv[1:]:
        raise app.UsageError(f"{argv[1]!r} is no flag; see --help")
    logging.set_verbosity(logging.WARNING)
    out = pathlib.Path(flags.FLAGS.out)
    try:
        card = make(flags.FLAGS.dataset, out, flags.FLAGS.seed)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    shown = {**card, "patients": f"{len(card['patients'])} of them"}
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    flags.DEFINE_string("dataset", None, "folder with train and val", required=True)
    flags.DEFINE_string("out", None, "folder for the weights and card", required=True)
    flags.DEFINE_integer("seed", 0, "of first weights, order and augmentation")
    app.run(main)
