import gzip
import sys
import zipfile

import pytest

from cxr_gan.data.formats import manifest_table

ROWS = {"path": ("a.png", "b, c.png"), "label": ("0012", "grün")}


def has_header(row: list[str]) -> bool:
    return "path" in row


def read(path):
    return manifest_table.read(path, has_header)


def values(table) -> dict[str, tuple[str, ...]]:
    return {name: tuple(table.values(i)) for i, name in enumerate(table.names)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_line_ends_and_delimiters_read_the_same(
    tmp_path, encoding, newline, delimiter
):
    lines = ["path,label", "", "a.png,0012", ",", '"b, c.png",grün', ""]
    text = newline.join(lines).replace(",", delimiter).replace(f"b{delimiter}", "b,")
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(encoding))
    table = read(path)
    assert values(table) == ROWS
    assert table.lines == [3, 5]


def test_txt_without_a_header_is_divided_at_blanks_and_columns_are_numbered(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("3 a.png  pneumonia cohen\n\n7 b.jpg normal sirm \n")
    assert values(read(path)) == {
        "1": ("3", "7"),
        "2": ("a.png", "b.jpg"),
        "3": ("pneumonia", "normal"),
        "4": ("cohen", "sirm"),
    }


def test_txt_with_a_header_and_tabs_is_read_as_tsv(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("path\tlabel\na b.png\tNo Finding\n")
    assert values(read(path)) == {"path": ("a b.png",), "label": ("No Finding",)}


def test_missing_values_of_pandas_and_excel_are_blank(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("path,label\na,nan\nb,NaN\nc,N/A\nd, \ne,#N/A\nf,None\n")
    assert values(read(path))["label"] == ("", "", "", "", "", "None")


def test_delimiters_at_the_end_of_lines_and_line_of_excel_are_ignored(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("sep=;\npath;label;\na;b;;\nc;d\n")
    assert values(read(path)) == {"path": ("a", "c"), "label": ("b", "d")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; it needs a row for each image"),
        (b"\n \n,,\n", "is empty"),
        (b"path,label\n", "has a header but no rows"),
        ("path,label\na,b\nü,b\n".encode("latin-1"), "line 3 is not UTF-8; save"),
        ("path\n".encode("utf-16-le"), "has NUL bytes"),
        ("path\na".encode("utf-16") + b"\0", "is not UTF-16"),
        (b"path,label\na,b\nc\nd,e,f\n", r"line 3 has 1 fields, .* 2 \(2 such lines\)"),
        (b'path,label\n"a,b\nc,d\n', "the row that ends at line 3"),
        (b'path,label\n"a"b,c\n', "the row that ends at line 2"),
        (b"path,label\n" + b"a" * 200_000 + b",b\n", "larger than field limit"),
        (gzip.compress(b"path,label\n", mtime=0), "is compressed with gzip"),
        (b"PK\x03\x04...", "is a spreadsheet"),
        (b"PAR1...", "is a Parquet file"),
    ],
)
def test_text_that_is_no_table_is_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def write_parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)


def test_parquet_reads_as_text(tmp_path):
    path = tmp_path / "x.parquet"
    columns = {
        "path": ["a", "b"],
        "label": [3, None],
        "score": [1.0, float("nan")],
        "several": [["A", "B"], []],
        "image": [{"bytes": b"\x89PNG", "path": "a"}] * 2,
    }
    write_parquet(path, columns)
    assert values(read(path)) == {
        "path": ("a", "b"),
        "label": ("3", ""),
        "score": ("1.0", ""),
        "several": ("A|B", ""),
    }


def test_parquet_that_is_damaged_or_has_only_images_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    write_parquet(path, {"image": [b"\x89PNG"]})
    with pytest.raises(ValueError, match="has no column of texts or numbers"):
        read(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is no Parquet file, or a damaged one") as e:
        read(path)
    assert "\n" not in str(e.value)
    write_parquet(path, {"path": [1][:0]})
    with pytest.raises(ValueError, match="is empty"):
        read(path)


def test_parquet_without_pyarrow_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImportError, match="type: pip install pyarrow"):
        read(tmp_path / "x.parquet")


def test_archive_with_another_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.csv", "w") as archive:
        archive.writestr("x.csv", "path,label\n")
    with pytest.raises(ValueError, match="zip archive"):
        read(tmp_path / "x.csv")
