"""The fenced blocks of README.md and of the manual, and the commands in them."""

import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).parents[1]


def read(page: str) -> str:
    """The text of a page, such as docs/index.md."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block of a page, in order."""
    found = re.findall(r"^( *)```(.*?)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [(language, textwrap.dedent(body)) for _, language, body in found]


def title(language: str) -> str | None:
    """x.py of a block that begins with ```python title="x.py"."""
    found = re.search(r'title="(.*)"', language)
    return found[1] if found else None


def commands(text: str) -> list[str]:
    """The commands of a bash block, each on one line."""
    text = re.sub(r"&&\n\s*", "&& ", re.sub(r"\\\n\s*", "", text))
    return [line for line in text.splitlines() if line.split("#")[0].strip()]


def console(text: str) -> list[tuple[str, str]]:
    """(command, output) of a block in which commands follow a prompt."""
    parts = re.split(r"^\$ ", re.sub(r"\\\n\s*", "", text), flags=re.MULTILINE)[1:]
    return [tuple(part.split("\n", 1)) for part in parts]


def typed(text: str) -> list[str]:
    """All commands in the fenced blocks of a page."""
    found = []
    for language, content in blocks(text):
        if language == "bash":
            found += commands(content)
        elif language == "console":
            found += [command for command, _ in console(content)]
    return found
