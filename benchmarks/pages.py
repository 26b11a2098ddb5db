"""Measured tables in hand-written pages; only text between two marks is replaced."""

import json
import os
import pathlib
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any


def put(page: str, mark: str, text: str) -> str:
    """The page with the text between the two lines of a mark replaced.

    Raises:
        ValueError: the page does not contain each line once, in order.
    """
    first, last = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    if page.count(first) != 1 or page.count(last) != 1:
        raise ValueError(f"the page must hold {first.strip()} and {last.strip()}, once")
    before, rest = page.split(first)
    if last not in rest:
        raise ValueError(f"{last.strip()} must stand below {first.strip()}")
    return f"{before}{first}\n{text}\n{last}{rest.split(last)[1]}"


def file_of(page: pathlib.Path, mark: str) -> pathlib.Path:
    """The file of a mark's results: PAGE.MARK.json in the folder of the page."""
    return page.with_name(f"{page.stem}.{mark}.json")


def earlier(page: pathlib.Path, mark: str) -> dict[str, Any]:
    """The results of an earlier run; {} if there are none. Call it before measuring.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: the page lacks a mark, or its results file has another format.
    """
    if not page.is_file():
        raise FileNotFoundError(f"--out={page}: no such page; see performance.md")
    put(page.read_text(encoding="utf-8"), mark, "")
    path = file_of(page, mark)
    try:
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); move it away") from error
    if not isinstance(results, dict):
        raise ValueError(f"{path} was not written by this command; move it away")
    return results


def write(
    page: pathlib.Path,
    results: dict[str, Any],
    mark: str,
    text: Callable[[dict[str, Any]], str],
) -> None:
    """Writes the results, and the text made of them into the page."""
    new = put(page.read_text(encoding="utf-8"), mark, text(results))
    keep(file_of(page, mark), json.dumps(results, indent=1) + "\n")
    keep(page, new)


def keep(path: pathlib.Path, text: str) -> None:
    """Writes a file atomically."""
    partial = path.with_name(f"{path.name}.unfinished")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def circumstances(libraries: Sequence[str]) -> dict[str, Any]:
    """Date, machine, load and library versions of a measurement."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": round(
            os.getloadavg()[0], 2
        ),  # runnable processes, mean of the last minute
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in libraries},
    }


def processor() -> str:
    """The processor's name according to the system."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
