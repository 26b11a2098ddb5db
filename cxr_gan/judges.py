"""The judge of classes that belongs to a data set: fitted once, then kept."""

import hashlib
import os

from absl import logging

from cxr_gan.data import cache
from cxr_gan.data.halves import halves
from cxr_gan.data.sets import ImageSet
from cxr_gan.metrics import fidelity

FORMAT = 1  # raise it when fitting changes, so that older judges are not used
SEED = 0


def judge_of(
    train: ImageSet,
    num_classes: int,
    cache_dir: str | os.PathLike[str] | None = None,
) -> fidelity.Judge:
    """A judge taught on half B of the patients of a training set.

    From the cache if one was taught on the same images before: see `cache.directory`.
    Fitting takes a core half a minute. A damaged file is fitted anew and replaced;
    where the cache cannot be written, the judge is not kept. Both with a warning.

    Raises:
        ValueError: half B has no image of a class.
    """
    half = train.take(~halves(train.ids))
    digest = hashlib.sha256(f"judge {FORMAT} {half.images.shape}".encode())
    digest.update(half.images.tobytes() + half.labels.tobytes())
    path = cache.directory(cache_dir) / f"judge-{digest.hexdigest()[:32]}.npz"
    if path.is_file():
        try:
            return fidelity.load(path, num_classes)
        except (OSError, ValueError) as error:
            logging.warning("%s: %s; fitting the judge anew", path, error)
    judge = fidelity.fit(half.images, half.labels, num_classes, SEED)
    try:
        fidelity.save(judge, path)
    except OSError as error:
        logging.warning(
            "%s: cannot be written (%s); the judge is not kept", path, error
        )
    return judge
