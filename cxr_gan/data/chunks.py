"""Decoded images on the disk, while the set that they become is incomplete.

A chunk is one file, of the images of consecutive files of a listing. Its name changes
with the files, so a chunk that exists is right, and is not decoded again.
"""

import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr_gan.data.formats import decode, image_file
from cxr_gan.data.listing import Entry, LeftOutError, version_of
from cxr_gan.storage import files
from cxr_gan.storage.checksums import CORRUPT_FILE_ERRORS

FORMAT = 2  # increase it when decoding changes, so that older chunks are not used
SIZE = 64  # files


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    problem: str = ""  # why it has no image; "" if it has one
    is_left_out: bool = False  # whether it is whole, but no frontal radiograph
    level: int = 0  # this and the rest as in `decode.DecodedImage`
    side: int = 0
    inverted: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """The files of a chunk, and where it is kept."""

    entries: Sequence[Entry]
    resolution: int  # px
    folder: Path
    is_stopped: threading.Event  # once it is set, no other file is decoded

    @property
    def path(self) -> Path:
        """The file of the chunk."""
        digest = hashlib.sha256(f"{FORMAT} {self.resolution}".encode())
        for entry in self.entries:
            key = (str(entry.path.resolve()), *version_of(entry.path))
            digest.update(repr(key).encode())
        return self.folder / f"{digest.hexdigest()[:32]}.npz"


def decode_chunk(task: Task) -> tuple[Path, list[Outcome]]:
    """Decodes the files of a chunk, unless it exists; its file, and the outcomes.

    Files that could not be read are tried again, because the disk, and not the file,
    may have been at fault.

    Raises:
        InterruptedError: the task was stopped; nothing is written.
        ImportError: a decoder is missing; says what to install.
        files.DiskError: the chunk cannot be written.
    """
    path = task.path
    if path.exists():
        try:
            outcomes = _read(path)[0]
        except CORRUPT_FILE_ERRORS:
            path.unlink()
        else:
            if not any(
                outcome.problem
                and not outcome.is_left_out
                and not _decode(entry, task.resolution)[0].problem
                for entry, outcome in zip(task.entries, outcomes, strict=True)
            ):
                return path, outcomes
    outcomes, images = [], []
    for entry in task.entries:
        if task.is_stopped.is_set():
            raise InterruptedError(f"{path.name} was not completed")
        outcome, decoded = _decode(entry, task.resolution)
        outcomes.append(outcome)
        images += decoded
    text = json.dumps([dataclasses.astuple(outcome) for outcome in outcomes])
    with files.atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            outcomes=np.frombuffer(text.encode(), np.uint8),
            final=_stack([i for i in images if i.dtype == np.uint8], np.uint8),
            deep=_stack([i for i in images if i.dtype != np.uint8], np.float32),
        )
    return path, outcomes


def _decode(entry: Entry, resolution: int) -> tuple[Outcome, list[np.ndarray]]:
    """What became of a file; and its pixels, if it could be decoded."""
    try:
        image = image_file.read(entry.path, resolution)
    except ValueError as error:
        return Outcome(str(error), isinstance(error, LeftOutError)), []
    return Outcome("", False, image.level, image.side, image.inverted), [image.pixels]


def _stack(images: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
    return np.stack(images) if images else np.empty(0, dtype)


def _read(path: Path) -> tuple[list[Outcome], list[np.ndarray]]:
    """What became of each file, and the pixels of those that were decoded."""
    with np.load(path, allow_pickle=False) as arrays:
        outcomes = [Outcome(*o) for o in json.loads(arrays["outcomes"].tobytes())]
        final, deep = iter(arrays["final"]), iter(arrays["deep"])
    decoded = [outcome for outcome in outcomes if not outcome.problem]
    return outcomes, [next(deep if o.level else final) for o in decoded]


class DecodedImages:
    """The images of all chunks as uint8, their depths agreed; row i is file i."""

    def __init__(self, chunks: Sequence[tuple[Path, list[Outcome]]]):
        self._paths = [path for path, _ in chunks]
        self.outcomes = [outcome for _, of_chunk in chunks for outcome in of_chunk]
        self.bits = decode.agree_depths([outcome.level for outcome in self.outcomes])

    def batches(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Reads the images of some rows, chunk by chunk.

        Args:
            wanted: bool [n]; false for every file that was not decoded.

        Yields:
            The rows [k] of a chunk, and their images, uint8 [k, s, s, 1].
        """
        for number, path in enumerate(self._paths):
            start = number * SIZE
            if not wanted[start : start + SIZE].any():
                continue
            outcomes, pixels = _read(path)
            decoded = [row for row, o in enumerate(outcomes, start) if not o.problem]
            rows = [row for row in decoded if wanted[row]]
            images = [
                self._to_uint8(image, row)
                for row, image in zip(decoded, pixels, strict=True)
                if wanted[row]
            ]
            yield np.array(rows), np.stack(images)[..., np.newaxis]

    def _to_uint8(self, pixels: np.ndarray, row: int) -> np.ndarray:
        known = self.outcomes[row]
        image = decode.DecodedImage(pixels, known.level, known.side, known.inverted)
        return decode.to_uint8(image, self.bits[row])
