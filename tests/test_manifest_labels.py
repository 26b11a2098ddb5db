import pytest

from cxr_gan.data.formats import manifest_labels, manifest_table

MANY = {f"label {i}" for i in range(21)}


@pytest.fixture
def classified(tmp_path):
    """Class, or else the reason why it is left out, of each row of columns."""

    def classified(columns, class_map=""):
        names = tuple(columns)
        values = tuple(columns.values())
        lines = range(2, 2 + len(values[0]))
        table = manifest_table.Table(tmp_path / "x.csv", names, values, lines)
        rows = range(len(lines))
        labels = manifest_labels.read(table, range(len(names)), rows)
        pairs = zip(*manifest_labels.classify(labels, class_map, "x.csv"), strict=True)
        return [class_name or reason for class_name, reason in pairs]

    return classified


def test_labels_without_a_map_are_the_classes_unchanged(classified):
    labels = ["1", "0", "00", "No Lung Opacity / Not Normal", "x,y", "", "-1", "-1.0"]
    assert classified({"label": labels}) == [
        *labels[:5],
        "without a label",
        *["of an uncertain label (-1)"] * 2,
    ]


def test_a_map_joins_labels_and_leaves_out_the_others(classified):
    labels = [
        *("No Finding", "Pneumonia", "Infiltration", "Hernia", ""),
        *("Pneumonia|Infiltration", "Hernia|Pneumonia", "['Pneumonia', 'Hernia']"),
        *("No Finding;Pneumonia", "[Pneumonia, Infiltration]"),
    ]
    class_map = "Pneumonia=ILL, Infiltration=ILL,No Finding=NORMAL"
    assert classified({"label": labels}, class_map) == [
        *("NORMAL", "ILL", "ILL"),
        *("of a label that manifest.classes does not name", "without a label"),
        *("ILL", "ILL", "ILL"),
        *("of labels of two classes", "ILL"),
    ]


def test_columns_of_numbers_are_labels_of_their_names(classified):
    columns = {
        "Pneumonia": ["1.0", "0", "", "-1", "", "True", "1"],
        "No Finding": ["", "1", "", "1", "-1.0", "false", "0.0"],
    }
    expected = [
        *("Pneumonia", "No Finding", "without a label"),
        *["of an uncertain label (-1)"] * 2,
        *("Pneumonia", "Pneumonia"),
    ]
    assert classified(columns) == expected
    names = {"Pneumonia": "ILL", "No Finding": "NORMAL"}
    class_map = ",".join(f"{label}={name}" for label, name in names.items())
    assert classified(columns, class_map) == [names.get(x, x) for x in expected]


def test_uncertain_labels_of_one_column_may_be_mapped(classified):
    labels = {"Pneumonia": ["1.0", "0.0", "-1.0", ""]}
    class_map = "1.0=ILL,-1.0=ILL,0.0=NORMAL"
    assert classified(labels, class_map) == ["ILL", "NORMAL", "ILL", "without a label"]


def test_several_labels_of_a_row_without_a_map_list_the_most_frequent(classified):
    labels = ["A|B", "A", "C", "A", "C"]
    message = (
        r"3 different labels, and 1 rows with several of them; the most frequent are "
        r"'A' \(3\), 'C' \(2\), 'B' \(1\): .* --manifest.classes='A=CLASS,C=CLASS'"
    )
    with pytest.raises(ValueError, match=message):
        classified({"label": labels})
    with pytest.raises(ValueError, match="2 different labels, and 1 rows with several"):
        classified({"A": ["1", "0"], "B": ["1", "1"]})


def test_classes_with_a_line_break_are_refused(classified):
    with pytest.raises(ValueError, match=r"the label 'A\\nB' has a line break"):
        classified({"label": ["A\nB", "C"]})


def test_long_labels_are_shortened_in_messages(classified):
    with pytest.raises(ValueError, match="21 different labels") as caught:
        classified({"label": [f"{i:02d}{'x' * 500}" for i in range(21)]})
    assert len(str(caught.value)) < 1_500


def test_more_than_twenty_labels_need_a_map(classified):
    assert set(classified({"label": sorted(MANY)[:20]})) == set(sorted(MANY)[:20])
    with pytest.raises(ValueError, match=r"21 different labels, .* and 11 more: name"):
        classified({"label": sorted(MANY)})


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ("ILL", "'ILL' must be one NAME=VALUE"),
        ("ILL=", "'ILL=' must be one NAME=VALUE"),
        ("=A", "'=A' must be one"),
        ("ILL=A,ILL=B", "'ILL=B' must be one NAME=VALUE, .* one value for each name"),
        ("ill=A", r"names 'ill', which no row has; .* are 'ILL' \(2\), 'x=1, 2' \(1\)"),
    ],
)
def test_maps_that_cannot_be_used_are_refused(classified, class_map, message):
    with pytest.raises(ValueError, match=message):
        classified({"label": ["ILL", "ILL", "x=1, 2"]}, class_map)


def test_labels_with_commas_are_put_in_quotes_in_a_map(classified):
    labels = {"label": ["x=1, 2", "B"]}
    assert classified(labels, '"x=1, 2=A",B=C') == ["A", "C"]
    assert classified(labels, '"x=1, 2"=A,B=C') == ["A", "C"]


def test_another_value_in_several_columns_names_the_column_and_line(classified):
    columns = {"A": ["1", "0"], "B": ["0", "2"]}
    with pytest.raises(ValueError, match="column 'B' has the value '2' at line 3"):
        classified(columns)
