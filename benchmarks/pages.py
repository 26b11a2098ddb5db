"""Measured tables within pages that people write: between two marks, nowhere else."""

import os
import pathlib
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any


def put(page: str, mark: str, text: str) -> str:
    """The page, with the text in place of what stood between the mark's two lines.

    Raises:
        ValueError: the page does not have both lines once, in order.
    """
    first, last = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    if page.count(first) != 1 or page.count(last) != 1:
        raise ValueError(f"the page must hold {first.strip()} and {last.strip()}, once")
    before, rest = page.split(first)
    if last not in rest:
        raise ValueError(f"{last.strip()} must stand below {first.strip()}")
    return f"{before}{first}\n{text}\n{last}{rest.split(last)[1]}"


def check(path: pathlib.Path, *marks: str) -> None:
    """Looks before anything is measured whether the page has room for it.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: it lacks a mark.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--out={path}: no such page; see docs/performance.md")
    for mark in marks:
        put(path.read_text(encoding="utf-8"), mark, "")


def write(path: pathlib.Path, texts: dict[str, str]) -> None:
    """Puts {mark: text} into a page, all or nothing."""
    page = path.read_text(encoding="utf-8")
    for mark, text in texts.items():
        page = put(page, mark, text)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(path)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column is words, the others are figures."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def circumstances(libraries: Sequence[str]) -> dict[str, Any]:
    """When, on what, beside what and with which libraries a figure is measured."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),  # processes that wanted a core, 1 minute
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in libraries},
    }


def processor() -> str:
    """As the system names it."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
