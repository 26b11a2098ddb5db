"""Inspects and decodes the files of a listing, in parallel and in bounded memory."""

import collections
import dataclasses
import functools
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TypeVar

from absl import logging

from cxr_gan.data import chunks, progress
from cxr_gan.data.chunks import DecodedImages, Outcome
from cxr_gan.data.formats import image_file
from cxr_gan.data.listing import Entry, Header, LeftOutError, Listing, ReadOptions
from cxr_gan.storage import files

In = TypeVar("In")
Out = TypeVar("Out")


@dataclasses.dataclass
class Table:
    """The files of a listing that can be used so far, row by row."""

    entries: list[Entry]
    headers: list[Header]
    left_out: collections.Counter[str]  # reason -> number of files
    faults: list[str]  # one sentence for each file that cannot be used


def chunk_folder_of(folder: Path) -> Path:
    """Where the chunks of a prepared set are kept until it is complete."""
    return folder.with_name(f".{folder.name}.chunks")


def _in_order(
    pool: Executor, function: Callable[[In], Out], items: Iterable[In]
) -> Iterator[Out]:
    """The results for the items, in order; only a few are computed ahead."""
    pending: collections.deque[Future[Out]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * (os.cpu_count() or 1):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _batches(items: Sequence[In]) -> list[Sequence[In]]:
    return [items[i : i + chunks.SIZE] for i in range(0, len(items), chunks.SIZE)]


def inspect(listing: Listing, options: ReadOptions, pool: Executor) -> Table:
    """Reads the headers of all files; the table has those that may be decoded.

    Raises:
        ImportError: a decoder is missing; says what to install.
    """
    entries = listing.entries
    inspect_files = functools.partial(_inspect_files, views=options.views)
    found = progress.track(
        ((len(r), r) for r in _in_order(pool, inspect_files, _batches(entries))),
        len(entries),
        f"Reading headers of {listing.root}",
    )
    table = Table([], [], collections.Counter(listing.left_out), [])
    results = itertools.chain.from_iterable(found)
    for entry, result in zip(entries, results, strict=True):
        if isinstance(result, Header):
            table.entries.append(entry)
            table.headers.append(result)
        elif result.is_left_out:
            table.left_out[result.problem] += 1
        else:
            table.faults.append(result.problem)
    if table.faults and options.on_error == "stop":
        logging.warning(
            "%d files cannot be read, such as: %s. All of them will be listed when the "
            "others are decoded",
            len(table.faults),
            table.faults[0],
        )
    return table


def _inspect_files(entries: Sequence[Entry], views: str) -> list[Header | Outcome]:
    found: list[Header | Outcome] = []
    for entry in entries:
        try:
            found.append(image_file.inspect(entry.path, views))
        except ValueError as error:
            found.append(Outcome(str(error), isinstance(error, LeftOutError)))
    return found


def check_space(headers: Sequence[Header], resolution: int, folder: Path) -> None:
    """Raises DiskError if the chunks and the set do not fit on the disk."""
    deep = sum(header.bits > 8 and header.kind != "DICOM" for header in headers)
    needed = (2 * len(headers) + 4 * deep) * resolution**2
    done = sum(path.stat().st_size for path in chunk_folder_of(folder).glob("*.npz"))
    needed = max(0, needed - done)
    free = shutil.disk_usage(folder.parent).free
    progress.say(
        f"{len(headers)} files to decode; {needed / 1e6:.0f} MB of disk are needed, "
        f"{free / 1e6:.0f} MB are free"
    )
    if free < needed:
        raise files.DiskError(
            f"{folder}: {len(headers)} images of {resolution} px need "
            f"{needed / 1e6:.0f} MB, but {free / 1e6:.0f} MB are free; free disk "
            "space, or give another folder"
        )


def decode(
    table: Table, root: Path, resolution: int, folder: Path, pool: Executor
) -> DecodedImages:
    """Decodes the files of a table into chunks in a folder; counts what cannot be.

    Raises:
        ImportError: a decoder is missing; says what to install.
        files.DiskError: a chunk cannot be written.
    """
    is_stopped = threading.Event()
    tasks = [
        chunks.Task(entries, resolution, folder, is_stopped)
        for entries in _batches(table.entries)
    ]
    done = progress.track(
        ((len(r[1]), r) for r in _in_order(pool, chunks.decode_chunk, tasks)),
        len(table.entries),
        f"Decoding {root}",
    )
    try:
        decoded = DecodedImages(list(done))
    except BaseException:
        is_stopped.set()  # the pool waits for chunks that are being decoded
        raise
    for outcome in decoded.outcomes:
        if outcome.is_left_out:
            table.left_out[outcome.problem] += 1
        elif outcome.problem:
            table.faults.append(outcome.problem)
    return decoded
