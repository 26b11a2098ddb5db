"""Whether labels can be guessed without lungs: linear classifiers on what else differs.

A GAN learns such a difference as if it were the finding, and classifiers that are
trained on its images do so too.
"""

import collections
import hashlib
from collections.abc import Sequence

import numpy as np

from cxr_gan.data.formats.prepared import Row
from cxr_gan.evaluation.utility import auroc
from cxr_gan.evaluation.utility.auroc import AurocEstimate

FOLDS = 5
MIN_PATIENTS = 10  # of each class; with fewer, nothing is estimated
MAX_IMAGES = 10_000  # that classifiers are trained and tested on
PENALTY = 0.1  # L2 penalty on the weights, multiplied by the number of images
MAX_CATEGORIES = 20  # of a text feature; the others are one


def estimate(
    features: np.ndarray, labels: np.ndarray, patients: np.ndarray, num_classes: int
) -> AurocEstimate | None:
    """AUROC of a linear classifier on images of patients it was not trained on.

    The classifier is least squares with an L2 penalty on standardised features, one
    class against all others. FOLDS of them are trained, each tested on a fold of the
    patients. With more than two classes, the AUROC is averaged over them.

    Args:
        features: [n, d].
        labels: int [n], 0..K-1.
        patients: str [n].
        num_classes: K.

    Returns:
        The value and its 95 % interval over patients; None if a class has fewer than
        MIN_PATIENTS patients, or if no feature varies.
    """
    classes = range(num_classes)
    num_patients = [len(set(patients[labels == label])) for label in classes]
    if min(num_patients) < MIN_PATIENTS:
        return None
    varying = np.ptp(features, 0) > 0
    if not varying.any():
        return None
    x = features[:, varying].astype(np.float64)
    targets = np.eye(num_classes)[labels]
    folds = np.array([_hash(patient) % FOLDS for patient in patients.tolist()])
    scores = np.empty(targets.shape)
    for fold in range(FOLDS):
        held_out = folds == fold
        scores[held_out] = _predict(x[~held_out], targets[~held_out], x[held_out])
    draws = auroc.draw_bootstrap(labels, patients, seeds=2, rng=0).images
    weights = auroc.BootstrapWeights(draws, np.ones((len(draws), 1)))
    return auroc.estimate(auroc.mean_auroc(scores[np.newaxis], labels, weights))


def select(patients: np.ndarray) -> np.ndarray:
    """Rows of at most MAX_IMAGES images, ascending, of entire patients.

    A patient whose images are too many for what is left is skipped.
    """
    if len(patients) <= MAX_IMAGES:
        return np.arange(len(patients))
    names, number, counts = np.unique(patients, return_inverse=True, return_counts=True)
    kept, left = np.zeros(len(names), bool), MAX_IMAGES
    for i in np.argsort([_hash(name) for name in names.tolist()]):
        if counts[i] <= left:
            kept[i] = True
            left -= counts[i]
    return np.flatnonzero(kept[number])


def origin_features(rows: Sequence[Row]) -> np.ndarray:
    """Size, manufacturer, modality, view, depth and kind of files, float64 [n, d].

    If nothing is known of any file, no column varies.
    """
    size = np.array([[float(r.height or 0), float(r.width or 0)] for r in rows])
    known = size.min(1) > 0
    logs = np.where(known[:, None], np.log(np.maximum(size, 1)), 0)
    columns = [*logs.T, logs[:, 0] - logs[:, 1]]
    for field in ("manufacturer", "modality", "view", "bits", "kind"):
        values = [getattr(row, field) for row in rows]
        common = collections.Counter(values).most_common(MAX_CATEGORIES)
        columns += [np.array(values) == value for value, _ in common]
    return np.stack(columns, 1).astype(np.float64)


def _predict(x: np.ndarray, targets: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Scores of `new` [m, d] by ridge regression of targets [n, K] on x [n, d]."""
    # A feature that does not vary here has no weight.
    mean, scale = x.mean(0), np.where(np.ptp(x, 0) > 0, x.std(0), np.inf)
    x, new = (x - mean) / scale, (new - mean) / scale
    centred = targets - targets.mean(0)
    penalty = PENALTY * len(x)
    if x.shape[1] <= len(x):
        gram = x.T @ x + penalty * np.eye(x.shape[1])
        return new @ np.linalg.solve(gram, x.T @ centred)
    gram = x @ x.T + penalty * np.eye(len(x))
    return new @ (x.T @ np.linalg.solve(gram, centred))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
