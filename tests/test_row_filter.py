import pytest

from cxr_gan.data.formats import row_filter

TABLE = {
    "id": ["0012", "12", "13", "14"],
    "age": ["9", "58", "", "100"],
    "limit": ["10", "58.0", "3", "20"],
    "view": ["PA", "AP", "LL", ""],
    "class": ["a b", "a", "A", "it's"],
    "View Position": ["PA", "AP", "LL", ""],
    "days": ["058Y", "1", "2", "3"],
}


def column(name: str) -> list[str]:
    if name not in TABLE:
        raise ValueError(f"no column {name!r}")
    return TABLE[name]


def chosen(condition: str) -> list[int]:
    mask = row_filter.select(condition, column, 4)
    return [row for row, is_chosen in enumerate(mask) if is_chosen]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("view == 'PA'", [0]),
        ("view != 'PA'", [1, 2, 3]),
        ("view in ['PA','AP']", [0, 1]),
        ("view not in ('PA', 'AP')", [2, 3]),
        ("view in ['PA', None]", [0, 3]),
        ("view == None", [3]),
        ("view != None and not age == 9", [1, 2]),
        ("age >= 18", [1, 3]),  # 100 is more than 18; a missing age is not
        ("18 <= age < 60", [1]),
        ("age > '18'", [1, 3]),  # both are numbers
        ("age in [9, 100]", [0, 3]),
        ("age == -9 or age == 58.0", [1]),
        ("age < limit", [0]),  # two columns of numbers
        ("id == '0012'", [0]),  # values are texts
        ("id == 12", [0, 1]),
        ("class == 'a b'", [0]),  # a word of Python as a name
        ("`class` == 'a'", [1]),
        ('`View Position` == "AP"', [1]),
        ("class == 'it\\'s' or class == \"in `x` and\"", [3]),
        ("view > 'LL'", [0]),
        (" (view == 'PA'\n or age == 100) ", [0, 3]),
    ],
)
def test_condition_chooses_rows(condition, rows):
    assert chosen(condition) == rows


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "cannot be read"),
        ("view == 'PA' AND age > 3", "at character 14"),
        ("view == 'PA", "at character 9"),
        ("view == 'PA' and age", "'age' is no comparison"),
        ("len(view) == 2", r"'len\(view\)' is no column"),
        ("`View Position`[0] == 'P'", r"'`View Position`\[0\]' is no column"),
        ("`ä b` == 'ü' and age + 1 > 3", "no column 'ä b'"),
        ("view == 'ü' and age + 1 > 3", r"'age \+ 1' is no column"),
        ("view in 'PA'", "\"'PA'\" is no list"),
        ("view in ['PA', age]", r"\['PA', age\]\" is no list"),
        ("['PA'] == view", r"\['PA'\]\" is no column"),
        ("view is None", "invalid syntax at character 6"),
        ("age == True", "no column 'True'"),
        ("f'{age}' == 'x'", "is no column"),
        ("(lambda: 1)() == 1", "invalid syntax at character 8"),
        ("__import__('os') == 1", "is no column"),
        ("days > 3", "'days' cannot be compared in a row with '058Y' and 3"),
        ("(" * 300 + "age > 1" + ")" * 300, "cannot be read"),
        ("age == " + "-" * 500 + "1", "cannot be read|is no column"),
        ("age == '\0'", "cannot be read"),
        ("age > 1 or " * 100 + "age > 1", "has 1107 characters; at most 1000"),
    ],
)
def test_other_python_is_refused_and_quoted(condition, message):
    with pytest.raises(ValueError, match=message) as caught:
        chosen(condition)
    assert "\n" not in str(caught.value)


def test_a_long_condition_chooses_rows():
    assert chosen("not " * 240 + f"age < 1{'0' * 30}") == [0, 1, 3]
