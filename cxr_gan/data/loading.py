"""Reads datasets, decoded and split, through prepared sets in the cache."""

import collections
import dataclasses
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging

from cxr_gan.data import decoding, preparation, sources, splits
from cxr_gan.data.dataset import (
    Dataset,
    ImageSet,
    RawSplits,
    Source,
    blocks,
    identity,
)
from cxr_gan.data.formats import prepared, prepared_writer
from cxr_gan.data.listing import Listing, ReadOptions, listing_fingerprint
from cxr_gan.storage import files, lock

CACHE_FORMAT = 3  # increase it when decoding changes, so that older sets are not used
DEFAULT_OPTIONS = ReadOptions()


@dataclasses.dataclass(frozen=True)
class _Plan:
    """A dataset that was found, and how it will be read."""

    spec: str
    source: Source | Listing
    resolution: int
    split_seed: int
    options: ReadOptions

    @property
    def is_prepared(self) -> bool:
        return isinstance(self.source, Source) and self.source.fingerprint is None

    @property
    def key(self) -> str:
        """Changes whenever the prepared set would be another one; sha256 hex."""
        if isinstance(self.source, Listing):
            fingerprint = f"files {listing_fingerprint(self.source)} {self.options}"
        else:
            fingerprint = str(self.source.fingerprint)
        # Sets in the cache are found only while this text is unchanged.
        text = f"{CACHE_FORMAT} {self.resolution} {self.split_seed} {fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()


def load(
    spec: str,
    resolution: int,
    *,
    split_seed: int,
    cache_dir: str | os.PathLike[str] | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Dataset:
    """Reads a dataset, from the cache if it was decoded before.

    Args:
        spec: `phantom`, `phantom:N`, a folder of images, a manifest, a prepared set, a
            file ending in .npz, or `tfds:NAME`.
        resolution: height and width of the images in px.
        split_seed: seed of the choice of the tenth that is held out if val is missing
            or too small.
        cache_dir: None for $XDG_CACHE_HOME/cxr_gan or ~/.cache/cxr_gan.
        options: how folders and manifests are read.

    Raises:
        FileNotFoundError: spec names no existing dataset; lists what is accepted.
        ValueError: the data cannot be trained on; names the files or the class.
        ImportError: a decoder is missing; says what to install.
    """
    plan = _plan(spec, resolution, split_seed, options)
    if plan.is_prepared:
        assert isinstance(plan.source, Source)
        raw = plan.source.read(resolution)
    else:
        cache = Path(cache_dir or files.user_cache_dir()).expanduser()
        raw = _read_cached(plan, cache / plan.key[:32])
    train, val, notes = splits.split_train_val(raw, split_seed)
    for note in (*raw.notes, *notes, *_duplicates(train, val)):
        logging.warning("%s: %s", spec, note)
    found = raw.identity if train is raw.train else None
    found = found or identity(train, val, raw.class_names)
    return Dataset(train, val, raw.class_names, found, raw.summary)


def prepare(
    spec: str,
    resolution: int,
    folder: Path,
    *,
    split_seed: int,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> bool:
    """Writes a dataset as a prepared set; arguments and errors as `load`.

    Returns:
        Whether it was written; False if the folder holds the same set already.

    Raises:
        FileExistsError: the folder holds something else.
        lock.InUseError: another process writes to the folder.
        files.DiskError: the folder cannot be written.
    """
    plan = _plan(spec, resolution, split_seed, options)
    if plan.is_prepared:
        raise ValueError(f"{spec} is a prepared set already; use it as it is")
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file; give a new folder")
    if not folder.name:
        raise FileExistsError(f"{folder} exists; give a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / prepared.DATASET).is_file():
            raise FileExistsError(f"{folder} is not empty; give a new folder")
        if prepared.read_description(folder).source == plan.key:
            return False
        raise FileExistsError(
            f"{folder} holds a set that was prepared from other files or with other "
            "flags; give a new folder, or delete this one"
        )
    _write(plan, folder)
    return True


def _plan(spec: str, resolution: int, split_seed: int, options: ReadOptions) -> _Plan:
    if resolution < 1:
        raise ValueError(
            f"resolution={resolution} must be a number of pixels, such as 64"
        )
    source = sources.open_source(spec, options)
    return _Plan(spec, source, resolution, split_seed, options)


def _read_cached(plan: _Plan, folder: Path) -> RawSplits:
    """The decoded images, from the prepared set in the cache or else added to it.

    A damaged set in the cache is replaced. If it cannot be, or if the cache cannot be
    written, the images are returned but not cached. Both log a warning.
    """
    while True:
        if folder.exists():
            try:
                return prepared.open_prepared(str(folder)).read(plan.resolution)
            except (OSError, ValueError) as error:
                logging.warning("damaged cache: %s; decoding the dataset again", error)
                shutil.rmtree(folder, ignore_errors=True)
                if folder.exists():
                    logging.warning("%s: cannot be removed; remove it", folder)
                    return _read_uncached(plan)
        try:
            _write(plan, folder)
        except lock.InUseError:
            time.sleep(1)  # until the other process has written the set
        except files.DiskError as error:
            logging.warning("%s; the decoded dataset is not cached", error)
            shutil.rmtree(decoding.chunk_folder_of(folder), ignore_errors=True)
            return _read_uncached(plan)
        except FileExistsError:
            pass  # another process has written it meanwhile


def _read_uncached(plan: _Plan) -> RawSplits:
    if isinstance(plan.source, Source):
        return _read_checked(plan.source, plan)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "set"
        _write(plan, folder)
        raw = prepared.open_prepared(str(folder)).read(plan.resolution)
        val = None if raw.val is None else _in_memory(raw.val)
        return dataclasses.replace(raw, train=_in_memory(raw.train), val=val)


def _in_memory(images: ImageSet) -> ImageSet:
    return dataclasses.replace(images, images=np.array(images.images))


def _write(plan: _Plan, folder: Path) -> None:
    """Reads the source, and writes the prepared set."""
    if isinstance(plan.source, Listing):
        preparation.prepare(
            plan.source,
            plan.resolution,
            folder,
            split_seed=plan.split_seed,
            options=plan.options,
            source=plan.key,
        )
        return
    raw = _read_checked(plan.source, plan)
    assert raw.val is not None
    prepared_writer.write(
        folder,
        raw.class_names,
        (("train", raw.train), ("val", raw.val)),
        raw.notes,
        source=plan.key,
        summary=raw.summary,
    )


def _read_checked(source: Source, plan: _Plan) -> RawSplits:
    raw = source.read(plan.resolution)
    return preparation.check_images(raw, plan.spec, plan.split_seed)


def _duplicates(train: ImageSet, val: ImageSet) -> Iterator[str]:
    """A note on images of val that are in train as well."""
    in_val = collections.Counter(_hashes(val))
    count = sum(in_val.pop(digest, 0) for digest in _hashes(train))
    if count:
        yield f"{count} images of val are identical, pixel by pixel, to images of train"


def _hashes(images: ImageSet) -> Iterator[bytes]:
    for block in blocks(images.images):
        yield from (hashlib.sha256(image.tobytes()).digest() for image in block)
