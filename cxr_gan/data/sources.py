"""Loads a dataset by its spec, decoded and split into train and val."""

import collections
import dataclasses
import difflib
import functools
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tqdm
from absl import logging

from cxr_gan.data import splits
from cxr_gan.data.dataset import (
    Dataset,
    ImageSet,
    RawSplits,
    Source,
    check_classes,
    identity,
)
from cxr_gan.data.formats import decode, image_folder, npz, prepared, tfds
from cxr_gan.data.listing import ReadOptions, listing_fingerprint
from cxr_gan.data.phantom import renderer
from cxr_gan.storage import files

PHANTOM_COUNT = 3_000  # images of "phantom" without a number
PHANTOM_SEED = 0  # fixed, so that runs on the phantom are comparable

ACCEPTED = (
    "accepted are 'phantom' or 'phantom:N' (N rendered images), a folder "
    f"({image_folder.LAYOUT}), a prepared set (a folder that "
    "cxr_gan.data.formats.prepared.write wrote), a file ending in .npz (MedMNIST "
    "layout), and 'tfds:NAME'"
)
CACHE_FORMAT = 1  # increase it when decoding changes, so that older sets are not used


def load(
    spec: str,
    resolution: int,
    *,
    split_seed: int,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Reads a dataset, from the cache if it was decoded before, and splits it.

    Args:
        spec: `phantom`, `phantom:N`, a folder of images, a prepared set, a file ending
            in .npz, or `tfds:NAME`.
        resolution: height and width of the images in px.
        split_seed: seed of the choice of the tenth that is held out if val is missing
            or too small.
        cache_dir: None for $XDG_CACHE_HOME/cxr_gan or ~/.cache/cxr_gan.

    Raises:
        FileNotFoundError: spec names no existing dataset; lists what is accepted.
        ValueError: the data cannot be trained on; names the file or the class.
    """
    if resolution < 1:
        raise ValueError(
            f"resolution={resolution} must be a number of pixels, such as 64"
        )
    kind, location = _parse_spec(spec)
    raw = _read(SOURCES[kind](location), resolution, cache_dir)
    for note in raw.notes:
        logging.warning("%s", note)
    num_classes = len(raw.class_names)
    in_val = None if raw.val is None else raw.val.counts(num_classes)
    check_classes(raw.class_names, raw.train.counts(num_classes), in_val, spec)
    try:
        train, val = splits.split_train_val(raw, split_seed)
    except ValueError as error:
        raise ValueError(f"{spec}: {error}") from error
    _warn_of_duplicates(spec, train, val)
    found = raw.identity if train is raw.train else None
    return Dataset(
        train, val, raw.class_names, found or identity(train, val, raw.class_names)
    )


def _read(
    source: Source, resolution: int, cache_dir: str | os.PathLike[str] | None
) -> RawSplits:
    """The decoded images, from the prepared set in the cache or else added to it.

    A damaged set in the cache is replaced. If the cache cannot be written, the images
    are returned but not cached. Both log a warning.
    """
    if source.fingerprint is None:
        return source.read(resolution)
    # Existing sets are found only while the key that names their folder is unchanged.
    key = f"{CACHE_FORMAT} {resolution} {source.fingerprint}"
    path = Path(cache_dir or files.user_cache_dir()).expanduser()
    path /= hashlib.sha256(key.encode()).hexdigest()[:32]
    if path.is_dir():
        try:
            raw = prepared.open_prepared(str(path)).read(resolution)
            return dataclasses.replace(raw, is_split=False)
        except (OSError, ValueError) as error:
            logging.warning("damaged cache: %s; decoding the dataset again", error)
            shutil.rmtree(path, ignore_errors=True)
    raw = source.read(resolution)
    chunks = [("train", raw.train)] + ([("val", raw.val)] if raw.val else [])
    try:
        prepared.write(path, raw.class_names, chunks, raw.notes)
    except (OSError, ValueError) as error:
        if not path.is_dir():  # else another process has written it meanwhile
            logging.warning("%s; the decoded dataset is not cached", error)
    return raw


def _parse_spec(spec: str) -> tuple[str, str]:
    """(key of SOURCES, location)."""
    kind, colon, location = spec.partition(":")
    if kind == "tfrecord" and colon:
        raise ValueError(
            f"dataset {spec!r}: version 0.2 replaced TFRecord files by prepared "
            "sets; write one with cxr_gan.data.formats.prepared.write, and give its "
            "folder"
        )
    try:
        path = files.require_local_path(spec, "dataset").expanduser()
    except RuntimeError as error:  # ~name of nobody
        raise FileNotFoundError(f"dataset {spec!r}: {error}; {ACCEPTED}") from error
    if kind in ("folder", "npz", "prepared") and not location and not path.is_dir():
        raise FileNotFoundError(f"dataset {spec!r} has no path; {ACCEPTED}")
    if kind in SOURCES and (colon or kind == "phantom" or not path.is_dir()):
        return kind, location
    if spec and path.is_dir():
        markers = path / prepared.DATASET, path / prepared.IMAGES
        return "prepared" if any(map(Path.is_file, markers)) else "folder", spec
    if path.is_file() and path.suffix.lower() == ".npz":
        return "npz", spec
    if path.is_file():
        raise ValueError(
            f"dataset {spec!r} is a file, but not an .npz file; unpack it first if it "
            f"is an archive; {ACCEPTED}"
        )
    raise FileNotFoundError(
        f"dataset {spec!r}: there is no such file or folder{_suggest(spec, path)}; "
        f"{ACCEPTED}"
    )


def _suggest(spec: str, path: Path) -> str:
    """'; did you mean X?' for a misspelt kind or part of the path, else ''."""
    kind, colon, location = spec.partition(":")
    matches = difflib.get_close_matches(kind.lower(), list(SOURCES), n=1)
    if matches:
        return f"; did you mean {matches[0] + colon + location!r}?"
    missing = path
    while missing.parent != missing and not missing.parent.is_dir():
        missing = missing.parent
    if missing.parent.is_dir():
        existing = [entry.name for entry in missing.parent.iterdir()]
        matches = difflib.get_close_matches(missing.name, existing, n=1)
        if matches:
            corrected = missing.parent / matches[0] / path.relative_to(missing)
            return f"; did you mean {str(corrected)!r}?"
    return ""


def _warn_of_duplicates(spec: str, train: ImageSet, val: ImageSet) -> None:
    # np.asarray, because the items of a memmap cost more.
    in_val = collections.Counter(image.tobytes() for image in np.asarray(val.images))
    count = sum(in_val.pop(i.tobytes(), 0) for i in np.asarray(train.images))
    if count:
        logging.warning(
            "%s: %d images of val are identical, pixel by pixel, to images of train",
            spec,
            count,
        )


def _open_folder(location: str) -> Source:
    found = image_folder.open_folder(location, ReadOptions())
    left_out = [f"{reason}: {count}" for reason, count in found.left_out.items()]
    for note in found.notes:
        logging.warning("%s", note)
    if left_out:
        logging.warning("%s: left out %s", found.root, ", ".join(left_out))
    names = tuple(sorted({entry.class_name for entry in found.entries}))

    def read(resolution: int) -> RawSplits:
        decoder = functools.partial(decode.read_file, resolution=resolution)
        paths = [entry.path for entry in found.entries]
        return decode.to_splits(
            decode.decode_all(decoder, paths, f"Reading {found.root}"),
            [(names.index(entry.class_name), entry.file) for entry in found.entries],
            sum(entry.split == "train" for entry in found.entries),
            names,
            str(found.root),
            are_files=True,
        )

    return Source(listing_fingerprint(found), read)


def _open_phantom(location: str) -> Source:
    count = PHANTOM_COUNT
    if location:
        if not location.isdecimal() or int(location) < 4:
            raise ValueError(
                f"phantom:{location} must name a number of images, 4 or more, such as "
                f"phantom:{PHANTOM_COUNT}"
            )
        count = int(location)

    def read(resolution: int) -> RawSplits:
        bar = tqdm.tqdm(range(count), "Rendering phantoms", disable=None, delay=2)
        images, labels = renderer.render_many(PHANTOM_SEED, bar, resolution)
        ids = tuple(f"phantom/{PHANTOM_SEED}/{index}" for index in range(count))
        return RawSplits(ImageSet(images, labels, ids), None, renderer.CLASS_NAMES)

    # The fingerprint is hashed into the cache key: keep its format.
    return Source(f"phantom {renderer.VERSION} {PHANTOM_SEED} {count}", read)


# Kind -> function that opens the location after the colon, without decoding it. A spec
# is KIND:LOCATION; folders and .npz files need no kind. To add a source, add it here.
SOURCES: dict[str, Callable[[str], Source]] = {
    "phantom": _open_phantom,
    "folder": _open_folder,
    "npz": npz.open_npz,
    "tfds": tfds.open_tfds,
    "prepared": prepared.open_prepared,
}
