import pytest

from cxr_gan.data.formats import manifest_labels


def classified(columns, class_map=""):
    """Class, or else the reason why it is left out, of each row of columns."""
    labels = manifest_labels.read(columns, "x.csv")
    pairs = manifest_labels.classify(labels, class_map, "x.csv")
    return [class_name or reason for class_name, reason in pairs]


def test_labels_without_a_map_are_the_classes_unchanged():
    labels = ["1", "0", "00", "No Lung Opacity / Not Normal", "x,y", "", "-1", "-1.0"]
    assert classified({"label": labels}) == [
        *labels[:5],
        "without a label",
        *["of an uncertain label (-1)"] * 2,
    ]


def test_a_map_joins_labels_and_leaves_out_the_others():
    labels = [
        *("No Finding", "Pneumonia", "Infiltration", "Hernia", ""),
        *("Pneumonia|Infiltration", "Hernia|Pneumonia", "Pneumonia|\nHernia"),
        *("No Finding;Pneumonia", "Pneumonia; Infiltration|"),
    ]
    class_map = "Pneumonia=ILL, Infiltration=ILL,No Finding=NORMAL"
    assert classified({"label": labels}, class_map) == [
        *("NORMAL", "ILL", "ILL"),
        *("of a label that manifest.classes does not name", "without a label"),
        *("ILL", "ILL", "ILL"),
        *("of labels of two classes", "ILL"),
    ]


def test_columns_of_numbers_are_labels_of_their_names():
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


def test_uncertain_labels_of_one_column_may_be_mapped():
    labels = {"Pneumonia": ["1.0", "0.0", "-1.0", ""]}
    class_map = "1.0=ILL,-1.0=ILL,0.0=NORMAL"
    assert classified(labels, class_map) == ["ILL", "NORMAL", "ILL", "without a label"]


def test_several_labels_of_a_row_without_a_map_list_the_most_frequent():
    message = (
        r"x.csv: 1 rows have several labels; the most frequent of 3 labels are 'A' "
        r"\(3\), 'C' \(2\), 'B' \(1\): .* --manifest.classes='LABEL=CLASS"
    )
    with pytest.raises(ValueError, match=message):
        classified({"label": ["A|B", "A", "C", "A", "C"]})
    with pytest.raises(
        ValueError, match=r"1 rows have several labels; .* 2 labels are"
    ):
        classified({"A": ["1", "0"], "B": ["1", "1"]})


def test_more_than_twenty_labels_need_a_map_and_ten_are_shown_in_short():
    labels = [f"{i:02}{'x' * 500}" for i in range(21)]
    assert classified({"label": labels[:20]}) == labels[:20]
    with pytest.raises(ValueError, match=r"more than 20 labels .* of 21 labels") as e:
        classified({"label": labels})
    assert "'09x" in str(e.value) and "'10x" not in str(e.value)
    assert len(str(e.value)) < 1_500


def test_line_breaks_in_labels_are_blanks():
    assert classified({"label": ["A\nB", "C"]}) == ["A B", "C"]


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ("ILL", "'ILL' must be one NAME=VALUE"),
        ("ILL=", "'ILL=' must be one NAME=VALUE"),
        ("=A", "'=A' must be one"),
        ("ILL=A,ILL=B", "'ILL=B' must be one NAME=VALUE, .* one value for each name"),
        ("ill=A", r"names 'ill', which no row has; .* 'ILL' \(2\), 'x=1, 2' \(1\)"),
    ],
)
def test_maps_that_cannot_be_used_are_refused(class_map, message):
    with pytest.raises(ValueError, match=message):
        classified({"label": ["ILL", "ILL", "x=1, 2"]}, class_map)


def test_labels_with_commas_are_put_in_quotes_in_a_map():
    labels = {"label": ["x=1, 2", "B"]}
    assert classified(labels, '"x=1, 2=A",B=C') == ["A", "C"]
    assert classified(labels, '"x=1, 2"=A,B=C') == ["A", "C"]


def test_another_value_in_several_columns_names_the_column():
    columns = {"A": ["1", "0"], "B": ["0", "2"]}
    with pytest.raises(ValueError, match="column 'B' has the values '2';"):
        classified(columns)
