"""MkDocs hook: fills in the tables that are generated from the source code.

A page names a table by a comment on its own line, such as `<!-- configuration -->`.
The names of tests in the tables of faults are for developers: the site leaves out that
column.
"""

import ast
import re
import tokenize
from pathlib import Path
from typing import Any

from cxr_gan import config as configs
from cxr_gan.evaluation.report.text import MEANINGS
from cxr_gan.evaluation.verdict import RULES
from cxr_gan.runtime import config_files

# Accepted values of a key without a rule, by the type of its default.
TYPES = {bool: "True or False", float: "a number", int: "a whole number", str: "a text"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces each comment that names a table by the table."""
    for name, make in TABLES.items():
        mark = f"<!-- {name} -->\n"
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return without_tests(markdown)


def without_tests(markdown: str) -> str:
    """The tables of faults without their last column."""
    head = "| what is kept |"
    markdown = markdown.replace(
        f"{head} tests |\n|---|---|---|---|", f"{head}\n|---|---|---|"
    )
    return re.sub(r" `test_[^|]*\|$", "", markdown, flags=re.MULTILINE)


def configuration() -> str:
    """Every key of configs/acgan.py, section by section."""
    defaults = configs.flatten(configs.published())
    parts = []
    for title, intro, comments in sections(config_files.shipped("acgan.py")):
        rows = [
            [
                f"`{key}`{{ #{key} }}",
                f"`{defaults[key]!r}`",
                comment,
                accepted(key, defaults[key]),
            ]
            for key, comment in comments.items()
        ]
        parts.append(f"## {title}\n\n{intro}\n\n")
        parts.append(table(["key", "default", "meaning", "accepted values"], rows))
    return "\n".join(parts)


def accepted(key: str, default: Any) -> str:
    """The rule of a key in words; for keys without a rule, the type of the default."""
    if key not in configs.RULES:
        return TYPES[type(default)]
    return configs.RULES[key][1].removeprefix("give ")


def sections(file: Path) -> list[tuple[str, str, dict[str, str]]]:
    """(title, introduction, {key: comment}) of each block of assignments in a file."""
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines()
    with file.open("rb") as stream:
        comments = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.tokenize(stream.readline)
            if token.type == tokenize.COMMENT
        }
    found: list[tuple[str, str, dict[str, str]]] = [("General", "", {})]
    known = configs.flatten(configs.published())
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign):
            continue
        first, last = node.lineno, node.end_lineno or node.lineno
        above = _block(comments, lines, first - 1, -1)
        if above and not lines[first - 2 - len(above)].strip():
            intro = " ".join(above)
            title = re.split(r"[.:(,;]", intro)[0].strip()
            found.append((title, intro.removeprefix(f"{title}.").strip(), {}))
        target = ast.unparse(node.targets[0]).removeprefix("config.")
        inside = [comments[i] for i in range(first, last + 1) if i in comments]
        text = " ".join(inside + _block(comments, lines, last + 1, 1))
        for key in known:
            if key == target:
                found[-1][2][key] = text
            elif key.startswith(f"{target}."):  # a copy of another group
                found[-1][2].setdefault(key, "")
    return [
        (title, "" if intro == title else intro, _inherit(keys))
        for title, intro, keys in found
        if keys
    ]


def _inherit(keys: dict[str, str]) -> dict[str, str]:
    """A key without a comment has that of the first key of the same last name."""
    by_name: dict[str, str] = {}
    for key, comment in keys.items():
        by_name.setdefault(key.split(".")[-1], comment)
    return {key: text or by_name[key.split(".")[-1]] for key, text in keys.items()}


def _block(
    comments: dict[int, str], lines: list[str], start: int, step: int
) -> list[str]:
    """The comments of the lines that hold only a comment, from `start` up or down."""
    block = []
    while start in comments and lines[start - 1].lstrip().startswith("#"):
        block.append(comments[start])
        start += step
    return block[::step]


def metrics() -> str:
    """Name, key and meaning of every metric of a report."""
    rows = [
        [meaning.name, f"`{key}`", meaning.explanation]
        for key, meaning in MEANINGS.items()
    ]
    return table(["name in the report", "in report.json", "meaning"], rows)


def verdicts() -> str:
    """Every fault of the verdict, with the conditions under which it is found."""
    rows: dict[str, list[str]] = {}
    for rule in RULES:
        name = MEANINGS[rule.metric].name
        space = f", `{rule.space}`" if rule.space else ""
        rows.setdefault(rule.words, []).append(f"{name}{space}: {rule.reason}")
    return table(["fault", "found if"], [[k, "<br>".join(v)] for k, v in rows.items()])


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


TABLES = {"configuration": configuration, "metrics": metrics, "verdicts": verdicts}
