"""Progress of a long reading: a bar on a terminal, a line now and then in a file."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

DELAY = 2  # seconds before a bar appears
LINE_EVERY = 30  # seconds between two lines, where stderr is no terminal

Item = TypeVar("Item")


def track(items: Iterable[tuple[int, Item]], total: int, title: str) -> Iterator[Item]:
    """Yields the items, and shows how many of the total are done and the time left.

    Args:
        items: (how many are done with this item, item).
        total: how many there are.
        title: what is done, such as "Decoding path/to/set".
    """
    is_terminal = sys.stderr.isatty()
    started = last_line = time.monotonic()
    done = 0
    with tqdm(
        total=total, desc=title, unit="img", disable=not is_terminal, delay=DELAY
    ) as bar:
        for count, item in items:
            done += count
            bar.update(count)
            now = time.monotonic()
            if not is_terminal and now - last_line >= LINE_EVERY:
                last_line = now
                left = (now - started) * (total - done) / done if done else 0
                say(f"{title}: {done} of {total}, about {left / 60:.0f} min left")
            yield item


def say(text: str) -> None:
    """Writes a line to stderr; the reading goes on if it cannot be written."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
