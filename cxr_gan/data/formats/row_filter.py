"""Conditions on the rows of a table, such as "view in ['PA','AP'] and age >= 18".

A condition is parsed by `ast` and compiled from a whitelist; it is never evaluated as
Python.
"""

import ast
import functools
import keyword
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

MAX_LENGTH = 1_000  # characters; bounds the depth of the syntax tree
GRAMMAR = (
    "write comparisons of columns, such as view in ['PA', 'AP'] and age >= 18, with "
    "==, !=, <, <=, >, >=, in, not in, and, or, not, parentheses and None for a "
    "missing value; put `backticks` around a column name with blanks"
)
WORDS = frozenset({"and", "or", "not", "in", "None"})  # of the grammar
TOKENS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`([^`]*)`|([^\W\d]\w*)")

Column = Callable[[str], Sequence[str]]  # name -> values, one for each row
Test = Callable[[int], bool]  # row -> whether it is chosen


def select(condition: str, column: Column, num_rows: int) -> list[bool]:
    """Whether each row is chosen.

    A value of a column is a text, or missing if it is "". A number in the condition
    is compared as a number; so is a text in <, <=, > and >= if both sides are numbers.
    A missing value is equal to None only, and is neither less nor greater than
    anything.

    Args:
        condition: comparisons with `and`, `or`, `not`; see GRAMMAR.
        column: gives the values of a column, or raises ValueError for an unknown name.
        num_rows: number of rows.

    Raises:
        ValueError: the condition is not of this form; quotes what is wrong. Or a
            column is unknown, or a value in it cannot be compared with a number.
    """
    condition = condition.strip().replace("\n", " ")
    text, names = _without_special_names(condition)
    test = _Compiler(condition, names, column).test(_parse(condition, text))
    return [test(row) for row in range(num_rows)]


def _without_special_names(condition: str) -> tuple[str, dict[str, str]]:
    """The condition with placeholders for names that are not Python's, and the names.

    These are names in backticks, and columns such as `class`.
    """
    names: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        quoted, word = match.groups()
        if quoted is None and (word in WORDS or not keyword.iskeyword(word or "")):
            return match[0]
        # As many bytes, so that positions in the syntax tree are those in `condition`.
        placeholder = f"_{len(names)}".ljust(len(match[0].encode()), "_")
        names[placeholder] = word if quoted is None else quoted
        return placeholder

    return TOKENS.sub(replace, condition), names


def _parse(condition: str, text: str) -> ast.expr:
    if len(condition) > MAX_LENGTH:
        raise ValueError(
            f"manifest.where has {len(condition)} characters; at most {MAX_LENGTH}"
        )
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        reason = f"{error.msg} at character {error.offset}"
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "nested too deeply"
    raise ValueError(
        f"manifest.where={condition!r} cannot be read ({reason}); {GRAMMAR}"
    )


class _Compiler:
    """Turns a syntax tree into a function from a row to whether it is chosen."""

    def __init__(self, condition: str, names: dict[str, str], column: Column):
        self.condition = condition
        self.names = names  # placeholder in the tree -> column
        self.column = column

    def test(self, node: ast.expr) -> Test:
        if isinstance(node, ast.BoolOp):
            tests = [self.test(value) for value in node.values]
            of_all = all if isinstance(node.op, ast.And) else any
            return lambda row: of_all(test(row) for test in tests)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            negated = self.test(node.operand)
            return lambda row: not negated(row)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = zip(sides, node.ops, sides[1:], strict=False)
            tests = [self.comparison(*pair) for pair in pairs]
            is_one = len(tests) == 1  # most are; then it takes half the time
            return tests[0] if is_one else lambda row: all(test(row) for test in tests)
        raise self.error(node, "is no comparison")

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Test:
        compare = COMPARISONS[type(op)]
        get_left = self.getter(left)
        get_right = self.getter(right, is_list=isinstance(op, ast.In | ast.NotIn))

        def test(row: int) -> bool:
            try:
                return compare(get_left(row), get_right(row))
            except TypeError as error:
                found = f"{get_left(row)!r} and {get_right(row)!r}"
                fault = f"cannot be compared in a row with {found}, not both numbers"
                raise self.error(left, fault) from error

        return test

    def getter(self, node: ast.expr, is_list: bool = False) -> Callable[[int], Any]:
        """Row -> a text, a number, None if it is missing; or a list of them."""
        if isinstance(node, ast.Name) and not is_list:
            values = self.column(self.names.get(node.id, node.id))
            return lambda row: values[row] or None
        try:
            constant = ast.literal_eval(node)
        except ValueError:
            constant = ...
        items = constant if is_list else [constant]
        if not isinstance(items, list | tuple) or not all(
            isinstance(item, str | int | float | None) for item in items
        ):
            kind = "list, such as ['PA', 'AP']" if is_list else "column, text or number"
            raise self.error(node, f"is no {kind}")
        return lambda row: constant

    def error(self, node: ast.expr, fault: str) -> ValueError:
        source = ast.get_source_segment(self.condition, node)
        return ValueError(
            f"manifest.where={self.condition!r}: {source!r} {fault}; {GRAMMAR}"
        )


def _number(value: Any) -> float | None:
    """The number that a value is or writes; None if it is none."""
    try:
        return None if value is None else float(value)
    except (ValueError, OverflowError):
        return None


def _equal(left: Any, right: Any) -> bool:
    if left == right or (isinstance(left, str) and isinstance(right, str)):
        return bool(left == right)
    return _number(left) == _number(right) is not None


def _is_in(left: Any, right: Sequence[Any]) -> bool:
    return left in right or any(_equal(left, item) for item in right)


def _ordered(order: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    numbers = _number(left), _number(right)
    return order(*((left, right) if None in numbers else numbers))


COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: _equal,
    ast.NotEq: lambda left, right: not _equal(left, right),
    ast.In: _is_in,
    ast.NotIn: lambda left, right: not _is_in(left, right),
    ast.Lt: functools.partial(_ordered, operator.lt),
    ast.LtE: functools.partial(_ordered, operator.le),
    ast.Gt: functools.partial(_ordered, operator.gt),
    ast.GtE: functools.partial(_ordered, operator.ge),
}
