"""From the string that names a data set to a divided set, in memory or mapped."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tqdm
from absl import logging

from cxr_gan import disk
from cxr_gan.data import cache, catalog, folder, npz, phantom, splits, tfrecord
from cxr_gan.data.sets import (
    Dataset,
    ImageSet,
    Source,
    Splits,
    check_classes,
    identity,
)

PHANTOM_COUNT = 3_000  # images of "phantom" without a number
PHANTOM_SEED = 0  # one fixed set, so that two runs can be compared
PHANTOM_CHUNK = 50  # images between two looks at the progress bar

ACCEPTED = (
    "accepted are 'phantom' or 'phantom:N' (N drawn images), a folder "
    f"({folder.LAYOUT}), a file ending in .npz (MedMNIST layout), 'tfds:NAME', and "
    "'tfrecord:FOLDER' (see cxr_gan.data.tfrecord)"
)


def load(
    spec: str,
    resolution: int,
    *,
    split_seed: int,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Reads a data set, from the cache if it was read before, and divides it.

    Args:
        spec: `phantom`, `phantom:N`, a folder, a file ending in .npz, `tfds:NAME` or
            `tfrecord:FOLDER`.
        resolution: side of the images in px.
        split_seed: of the held-out tenth where val is missing or too small.
        cache_dir: None for $XDG_CACHE_HOME/cxr_gan or ~/.cache/cxr_gan.

    Raises:
        FileNotFoundError: if spec names nothing that is there; lists what is accepted.
        ValueError: naming the file or the class, if the data cannot be trained on.
    """
    if resolution < 1:
        raise ValueError(
            f"resolution={resolution} must be a number of pixels, such as 64"
        )
    kind, location = _kind(spec)
    source = SOURCES[kind](location)
    if source.fingerprint is None:
        raw = source.read(resolution)
    else:
        raw = cache.fetch(source.fingerprint, resolution, source.read, cache_dir)
    for note in raw.notes:
        logging.warning("%s", note)
    check_classes(raw, spec)
    try:
        train, val = splits.divide(raw, split_seed)
    except ValueError as error:
        raise ValueError(f"{spec}: {error}") from error
    _warn_of_duplicates(spec, train, val)
    return Dataset(train, val, raw.class_names, identity(train, val, raw.class_names))


def _kind(spec: str) -> tuple[str, str]:
    """Key of SOURCES and the rest of the string."""
    kind, _, location = spec.partition(":")
    if kind in SOURCES:
        return kind, location
    path = disk.local(spec, "dataset").expanduser()
    if spec and path.is_dir():
        return "folder", spec
    if path.is_file() and path.suffix.lower() == ".npz":
        return "npz", spec
    if path.is_file():
        raise ValueError(
            f"dataset {spec!r} is a file, but no .npz; unpack it first if it is an "
            f"archive; {ACCEPTED}"
        )
    raise FileNotFoundError(
        f"dataset {spec!r}: there is no such file or folder{_near(spec, path)}; "
        f"{ACCEPTED}"
    )


def _near(spec: str, path: Path) -> str:
    """A suggestion: another kind, or another name where the path breaks off."""
    kind, colon, location = spec.partition(":")
    alike = difflib.get_close_matches(kind.lower(), list(SOURCES), n=1)
    if alike:
        return f"; did you mean {alike[0] + colon + location!r}?"
    missing = path
    while missing.parent != missing and not missing.parent.is_dir():
        missing = missing.parent
    if missing.parent.is_dir():
        there = [entry.name for entry in missing.parent.iterdir()]
        alike = difflib.get_close_matches(missing.name, there, n=1)
        if alike:
            mended = missing.parent / alike[0] / path.relative_to(missing)
            return f"; did you mean {str(mended)!r}?"
    return ""


def _warn_of_duplicates(spec: str, train: ImageSet, val: ImageSet) -> None:
    held = [image.tobytes() for image in val.images]
    wanted = set(held)
    seen = {pixels for image in train.images if (pixels := image.tobytes()) in wanted}
    count = sum(pixels in seen for pixels in held)
    if count:
        logging.warning(
            "%s: %d images of val are identical, pixel by pixel, to images of train",
            spec,
            count,
        )


def _open_phantom(location: str) -> Source:
    count = PHANTOM_COUNT
    if location:
        if not location.isdecimal() or int(location) < 4:
            raise ValueError(
                f"phantom:{location} must name a number of images, 4 or more, such as "
                f"phantom:{PHANTOM_COUNT}"
            )
        count = int(location)

    def read(resolution: int) -> Splits:
        images = np.empty((count, resolution, resolution, 1), np.uint8)
        labels = np.empty(count, np.int32)
        chunks = range(0, count, PHANTOM_CHUNK)
        for first in tqdm.tqdm(chunks, "Drawing phantoms", disable=None, delay=2):
            here = slice(first, min(first + PHANTOM_CHUNK, count))
            indices = range(here.start, here.stop)
            images[here], labels[here] = phantom.render_many(
                PHANTOM_SEED, indices, resolution
            )
        ids = tuple(f"phantom/{PHANTOM_SEED}/{index}" for index in range(count))
        return Splits(ImageSet(images, labels, ids), None, phantom.CLASS_NAMES)

    return Source(f"phantom {phantom.VERSION} {PHANTOM_SEED} {count}", read)


# Kind -> function that opens what follows the colon, without decoding it. A spec is
# KIND:LOCATION; folders and .npz files need no kind. To add a source, add it here.
SOURCES: dict[str, Callable[[str], Source]] = {
    "phantom": _open_phantom,
    "folder": folder.open_folder,
    "npz": npz.open_npz,
    "tfds": catalog.open_tfds,
    "tfrecord": tfrecord.open_tfrecord,
}
