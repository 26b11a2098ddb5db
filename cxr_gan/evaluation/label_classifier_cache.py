"""The label classifier of a data set, fitted once and then read from the cache."""

import hashlib
import os
import pathlib

from absl import logging

from cxr_gan.data.dataset import ImageSet
from cxr_gan.data.splits import patient_halves
from cxr_gan.evaluation.metrics import label_classifier
from cxr_gan.storage import files

FORMAT = 1  # increase when fitting changes, so that older classifiers are not used
SEED = 0


def load_or_fit(
    train: ImageSet,
    num_classes: int,
    cache_dir: str | os.PathLike[str] | None = None,
) -> label_classifier.LabelClassifier:
    """A label classifier fitted on half B of the patients of a training set.

    Read from cache_dir (default: `files.user_cache_dir`) if one was fitted on the same
    images before. Fitting takes half a minute on one core. If the cached file is
    damaged, the classifier is fitted again and the file replaced; if the cache cannot
    be written, the classifier is used without being cached. Both log a warning.

    Raises:
        ValueError: half B has no image of a class.
    """
    half = train.take(~patient_halves(train.ids))
    # "judge" is an earlier name of the classifier. The hash and the file name keep it,
    # so that classifiers in existing caches are found.
    digest = hashlib.sha256(f"judge {FORMAT} {half.images.shape}".encode())
    digest.update(half.images.tobytes() + half.labels.tobytes())
    folder = pathlib.Path(cache_dir or files.user_cache_dir()).expanduser()
    path = folder / f"judge-{digest.hexdigest()[:32]}.npz"
    if path.is_file():
        try:
            return label_classifier.load(path, num_classes)
        except (OSError, ValueError) as error:
            logging.warning("%s: %s; fitting the label classifier again", path, error)
    classifier = label_classifier.fit(half.images, half.labels, num_classes, SEED)
    try:
        label_classifier.save(classifier, path)
    except OSError as error:
        logging.warning(
            "%s: cannot be written (%s); the label classifier is not cached",
            path,
            error,
        )
    return classifier
