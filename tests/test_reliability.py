"""Every fault in docs/reliability.md names tests that exist."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
HEADER = "| fault | what you see | what is kept | tests |"
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of every table row, without headers."""
    lines = [line for line in TEXT.splitlines() if line.startswith("|")]
    body = [line for line in lines if line != HEADER and set(line) - set("|-")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def function_names(file: str) -> set[str]:
    """Names of the functions defined at the top level of a test file."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_all_tables_are_found():
    assert TEXT.count(HEADER) == TEXT.count("|---|---|---|---|") == 6
    assert len(rows()) > 25


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_row_is_complete_and_names_only_tests(row):
    assert len(row) == 4 and all(row)
    assert NAMED.findall(row[3]), "no test is named"
    assert not NAMED.sub("", row[3]).strip(", "), "not only tests are named"


@pytest.mark.parametrize(("file", "name"), sorted({*NAMED.findall(TEXT)}))
def test_named_test_exists(file, name):
    assert name in function_names(file)
