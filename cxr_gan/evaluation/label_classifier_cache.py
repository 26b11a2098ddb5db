"""The label classifier of a data set, fitted once and then read from the cache."""

import functools
import hashlib
import os
import pathlib
from typing import Any

import jax
from absl import logging

from cxr_gan.data.dataset import ImageSet
from cxr_gan.data.splits import in_half_a
from cxr_gan.evaluation.metrics import label_classifier
from cxr_gan.storage import files, weights_file

FORMAT = 1  # increase when fitting changes, so that older classifiers are not used
SEED = 0


def load_or_fit(
    train: ImageSet,
    num_classes: int,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """Params of `label_classifier.fit` on half B of the patients of a training set.

    Read from cache_dir (default: `files.user_cache_dir`) if one was fitted on the same
    images before. Fitting takes half a minute on one core. If the cached file is
    damaged, the classifier is fitted again and the file replaced; if the cache cannot
    be written, the classifier is used without being cached. Both log a warning.

    Raises:
        ValueError: half B has no image of a class.
    """
    half = train.take(~in_half_a(train))
    # "judge" is an earlier name of the classifier. The hash and the file name keep it,
    # so that classifiers in existing caches are found.
    digest = hashlib.sha256(f"judge {FORMAT} {half.images.shape}".encode())
    digest.update(half.images.tobytes() + half.labels.tobytes())
    folder = pathlib.Path(cache_dir or files.user_cache_dir()).expanduser()
    path = folder / f"judge-{digest.hexdigest()[:32]}.npz"
    if path.is_file():
        try:
            init = functools.partial(label_classifier.init_params, num_classes)
            shapes = jax.eval_shape(init, jax.random.key(0))
            return weights_file.unpack(path.read_bytes(), shapes, str(path))
        except (OSError, ValueError) as error:
            logging.warning("%s: %s; fitting the label classifier again", path, error)
    params = label_classifier.fit(half.images, half.labels, num_classes, SEED)
    try:
        weights_file.write(path, weights_file.pack(params))
    except OSError as error:
        logging.warning(
            "%s: cannot be written (%s); the label classifier is not cached",
            path,
            error,
        )
    return params
