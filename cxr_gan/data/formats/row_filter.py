"""Conditions on the rows of a table, such as "view in ['PA','AP'] and age >= 18".

A condition is parsed by `ast` and compiled from a whitelist; it is never evaluated as
Python.
"""

import ast
import keyword
import operator
import re
from collections.abc import Callable, Sequence

MAX_LENGTH = 1_000  # characters; bounds the depth of the syntax tree
GRAMMAR = (
    "write comparisons of columns, such as view in ['PA', 'AP'] and age >= 18, with "
    "==, !=, <, <=, >, >=, in, not in, and, or, not, parentheses and None for a "
    "missing value; put `backticks` around a column name with blanks"
)
WORDS = frozenset({"and", "or", "not", "in", "is", "None"})  # of the grammar
TOKENS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`([^`]*)`|([^\W\d]\w*)")
EQUALITIES = {ast.Eq: True, ast.Is: True, ast.NotEq: False, ast.IsNot: False}
ORDERS = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt}
ORDERS[ast.GtE] = operator.ge

Value = str | float | None  # a text, a number or a missing value
Column = Callable[[str], Sequence[str]]  # name -> values, one for each row
Test = Callable[[int], bool]  # row -> whether it is chosen
Getter = Callable[[int], Value]


def select(condition: str, column: Column, num_rows: int) -> list[bool]:
    """Whether each row is chosen.

    A value of a column is a text, or missing if it is "". A number in the condition
    is compared as a number; so are two columns of numbers, and a text of the condition
    in <, <=, > and >= if both sides are numbers. A missing value is equal to None
    only, and is neither less nor greater than anything.

    Args:
        condition: comparisons with `and`, `or`, `not`; see GRAMMAR.
        column: gives the values of a column, or raises ValueError for an unknown name.
        num_rows: number of rows.

    Raises:
        ValueError: the condition is not of this form; names the position in it. Or a
            column is unknown, or a value in it cannot be compared with a number; names
            the column.
    """
    condition = condition.strip().replace("\n", " ")
    text, names = _without_special_names(condition)
    test = _Compiler(condition, text, names, column).test(_parse(condition, text))
    return [test(row) for row in range(num_rows)]


def _without_special_names(condition: str) -> tuple[str, dict[str, str]]:
    """The condition with placeholders for names that are not Python's, and the names.

    These are names in backticks, and columns such as `class`.
    """
    names: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        quoted, word = match[1], match[2]
        if quoted is None and (word in WORDS or not keyword.iskeyword(word or "")):
            return match[0]
        placeholder = f"_{len(names)}".ljust(len(match[0]), "_")  # keeps positions
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
        position = f" at character {error.offset}" if error.offset else ""
        reason = f"{error.msg}{position}"
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "nested too deeply"
    raise ValueError(
        f"manifest.where={condition!r} cannot be read ({reason}); {GRAMMAR}"
    )


class _Compiler:
    """Turns a syntax tree into a function from a row to whether it is chosen."""

    def __init__(
        self, condition: str, text: str, names: dict[str, str], column: Column
    ):
        self.condition = condition
        self.text = text  # what was parsed: names[x] stands for x in it
        self.names = names
        self.column = column

    def test(self, node: ast.expr) -> Test:
        if isinstance(node, ast.BoolOp):
            tests = [self.test(value) for value in node.values]
            if isinstance(node.op, ast.And):
                return lambda row: all(test(row) for test in tests)
            return lambda row: any(test(row) for test in tests)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            negated = self.test(node.operand)
            return lambda row: not negated(row)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = zip(sides, node.ops, sides[1:], strict=False)
            tests = [self.comparison(*pair) for pair in pairs]
            return lambda row: all(test(row) for test in tests)
        raise self.error(node, "is no comparison")

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Test:
        if isinstance(op, ast.In | ast.NotIn):
            return self.membership(left, right, isinstance(op, ast.In))
        label = self.label(left, right)
        get_left, get_right = self.getter(left), self.getter(right)
        if type(op) in EQUALITIES:
            wanted = EQUALITIES[type(op)]
            is_text = any(isinstance(x, ast.Constant) for x in (left, right))

            def equal(row: int) -> bool:
                return _equal(get_left(row), get_right(row), is_text) is wanted

            return equal
        order = ORDERS[type(op)]

        def ordered(row: int) -> bool:
            return _ordered(order, get_left(row), get_right(row), label)

        return ordered

    def membership(self, left: ast.expr, right: ast.expr, wanted: bool) -> Test:
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise self.error(right, "is no list, such as ['PA', 'AP']")
        get = self.getter(left)
        literals = [self.literal(item) for item in right.elts]
        texts = {x for x in literals if x is None or isinstance(x, str)}
        numbers = {x for x in literals if isinstance(x, float)}

        def is_member(row: int) -> bool:
            value = get(row)
            found = value in texts or (bool(numbers) and _number(value) in numbers)
            return found is wanted

        return is_member

    def getter(self, node: ast.expr) -> Getter:
        if isinstance(node, ast.Name):
            values = self.column(self.names.get(node.id, node.id))
            return lambda row: values[row] or None
        literal = self.literal(node)
        return lambda row: literal

    def literal(self, node: ast.expr) -> Value:
        """A text, a number or None."""
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = -1, node.operand
        value = node.value if isinstance(node, ast.Constant) else ...
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return sign * float(value)
            except OverflowError:
                raise self.error(node, "is too large") from None
        if sign == 1 and (value is None or isinstance(value, str)):
            return value
        raise self.error(node, "is no column, text, number or None")

    def label(self, *nodes: ast.expr) -> str:
        """The columns among the nodes, for messages."""
        columns = [n.id for n in nodes if isinstance(n, ast.Name)]
        return " and ".join(repr(self.names.get(name, name)) for name in columns)

    def error(self, node: ast.expr, fault: str) -> ValueError:
        encoded = self.text.encode()
        start = len(encoded[: node.col_offset].decode())
        end = len(encoded[: node.end_col_offset].decode())
        return ValueError(
            f"manifest.where={self.condition!r}: {self.condition[start:end]!r} at "
            f"character {start + 1} {fault}; {GRAMMAR}"
        )


def _number(value: Value) -> float | None:
    """The number that a text writes; None if it writes none."""
    if isinstance(value, float):
        return value
    try:
        return float(value) if value else None
    except ValueError:
        return None


def _equal(left: Value, right: Value, is_text: bool) -> bool:
    """Whether values are equal; two texts are compared as such if `is_text`."""
    if isinstance(left, float) or isinstance(right, float) or not is_text:
        number = _number(left)
        if number is not None and number == _number(right):
            return True
    return left == right


def _ordered(
    order: Callable[[float | str, float | str], bool],
    left: Value,
    right: Value,
    label: str,
) -> bool:
    if left is None or right is None:
        return False
    numbers = _number(left), _number(right)
    if numbers[0] is not None and numbers[1] is not None:
        return order(numbers[0], numbers[1])
    for value in (left, right):
        if not isinstance(value, str):
            other = right if value is left else left
            raise ValueError(
                f"manifest.where compares {label} with the number {value:g}, but the "
                f"column has the value {other!r}; choose rows in which it is a number"
            )
    return order(left, right)
