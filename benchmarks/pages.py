"""Measured tables within pages that people write: between two marks, nowhere else."""

import json
import os
import pathlib
import platform
import time
from collections.abc import Callable, Sequence
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


def file_of(page: pathlib.Path, mark: str) -> pathlib.Path:
    """Where the figures of a page's mark are kept: PAGE.MARK.json beside it."""
    return page.with_name(f"{page.stem}.{mark}.json")


def earlier(page: pathlib.Path, mark: str) -> dict[str, Any]:
    """What an earlier run left; {} where there was none. Looked at before measuring.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: it lacks a mark, or its file of figures is not ours.
    """
    if not page.is_file():
        raise FileNotFoundError(f"--out={page}: no such page; see docs/performance.md")
    put(page.read_text(encoding="utf-8"), mark, "")
    path = file_of(page, mark)
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); move it away") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not what this command writes; move it away")
    return found


def write(
    page: pathlib.Path,
    figures: dict[str, Any],
    mark: str,
    text: Callable[[dict[str, Any]], str],
) -> None:
    """Keeps the figures, and puts what `text` makes of them into the page."""
    told = put(page.read_text(encoding="utf-8"), mark, text(figures))
    keep(file_of(page, mark), json.dumps(figures, indent=1) + "\n")
    keep(page, told)


def keep(path: pathlib.Path, text: str) -> None:
    """A file, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
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
