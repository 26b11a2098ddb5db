"""docs/reliability.md promises nothing that no test breaks."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
HEADER = "| fault | what you see | what is kept | tests |"
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of each row of the tables, headers left out."""
    lines = [line for line in TEXT.splitlines() if line.startswith("|")]
    body = [line for line in lines if line != HEADER and set(line) - set("|-")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def named_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_tables_are_found():
    assert TEXT.count(HEADER) == TEXT.count("|---|---|---|---|") == 6
    assert len(rows()) > 25


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_fault_says_what_is_seen_and_kept_and_names_its_tests(row):
    assert len(row) == 4 and all(row)
    assert NAMED.findall(row[3]), "names no test"
    assert not NAMED.sub("", row[3]).strip(", "), "names something else too"


@pytest.mark.parametrize(("file", "name"), sorted({*NAMED.findall(TEXT)}))
def test_a_test_that_is_named_is_there(file, name):
    assert name in named_in(file)
