"""Manifests of small sets; the files are empty, because listing opens none."""

import pytest

from cxr_gan.data.formats.manifest import is_metadata_folder, open_manifest
from cxr_gan.data.listing import ManifestOptions, ReadOptions

PLAIN = "path,label\na.png,ILL\nb.png,NORMAL\n"


@pytest.fixture
def opened(tmp_path):
    """Writes files and a manifest, and opens it."""

    def opened(text, files="a.png b.png", name="set.csv", **options):
        make(tmp_path, files)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return read(path, **options)

    return opened


def make(root, files):
    for file in files.split():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(path, views="frontal", on_error="stop", **manifest):
    options = ReadOptions(ManifestOptions(**manifest), views=views, on_error=on_error)
    return open_manifest(str(path), options)


def listed(listing, *fields):
    fields = fields or ("file", "class_name")
    return [tuple(getattr(entry, x) for x in fields) for entry in listing.entries]


def test_entries_are_train_before_val_then_by_class_and_file(opened, tmp_path):
    listing = opened(
        "Image Index,Finding,Patient ID,Subset,View Position\n"
        "d.png,NORMAL,0012,valid,PA\n"
        "c.png,NORMAL,0012,Training,AP\n"
        "b.png,ILL,7,TRAIN,\n"
        "x/a.png,ILL,,dev,PA\n"
        "e.png,ILL,8,holdout,PA\n"
        "a.png,ILL,9,train,PA\n",
        files="a.png b.png c.png d.png x/a.png",
    )
    assert listed(listing, "file", "class_name", "split", "patient", "view") == [
        ("a.png", "ILL", "train", "9", "PA"),
        ("b.png", "ILL", "train", "7", ""),
        ("c.png", "NORMAL", "train", "0012", "AP"),
        ("x/a.png", "ILL", "val", "", "PA"),
        ("d.png", "NORMAL", "val", "0012", "PA"),
    ]
    assert listing.root == tmp_path
    assert [entry.path for entry in listing.entries][3] == tmp_path / "x/a.png"
    assert listing.left_out == {"of a test split": 1}


@pytest.mark.parametrize("file", ["Path", "file_name", "imagename", "dicom_id", "ID"])
@pytest.mark.parametrize("label", ["Target", "Finding Labels", "class-name", "y"])
def test_columns_are_found_by_usual_names(opened, file, label):
    listing = opened(f"{file},{label}\na.png,1\nb.png,0\n")
    assert listed(listing) == [("b.png", "0"), ("a.png", "1")]


def test_columns_are_named_by_options_without_case_and_punctuation(opened):
    listing = opened(
        "path,id,label,final_diagnosis,hospital_number,view\n"
        "x,a.png,L,ILL,007,l\ny,b.png,L,NORMAL,7,l\n",
        file="ID",
        label="Final Diagnosis",
        patient="hospital_number",
        view="none",
    )
    assert listed(listing, "file", "class_name", "patient", "view") == [
        ("a.png", "ILL", "007", ""),
        ("b.png", "NORMAL", "7", ""),
    ]


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("a,label", {}, "'a', 'label': name one by --manifest.file=COLUMN"),
        ("path,b", {}, r"'path', 'b': name one by --manifest.label=COLUMN \(--config"),
        ("path,label,filename", {}, "several columns may be the file: 'path', 'filen"),
        ("path,label,class", {}, "several columns may be the label: 'label', 'class'"),
        ("path,label", {"label": "lable"}, "no column 'lable'; did you mean 'label'"),
        ("path,label", {"patient": "pid"}, "no column 'pid'; it has 'path', 'label'"),
        ("path|label", {}, "has only the column 'path|label'; a manifest names"),
        ("path,label,Label", {"label": "LABEL"}, "2 columns are named 'LABEL'"),
        ("path,label", {"where": "sex == 'M'"}, "no column 'sex'; it has 'path'"),
    ],
)
def test_missing_and_ambiguous_columns_list_the_columns(
    opened, header, options, message
):
    row = ["a.png", "ILL", "x"][: header.count(",") + 1]
    with pytest.raises(ValueError, match=message):
        opened(f"{header}\n{','.join(row)}\n", **options)


def test_files_without_header_are_read_by_numbers_of_columns(opened):
    text = "3 a.png ILL cohen\n7 b.png NORMAL sirm\n"
    with pytest.raises(ValueError, match=r"columns are 1 \(such as '3'\), 2 \(such"):
        opened(text, name="train.txt")
    for name in ("train.txt", "train.csv"):
        listing = opened(
            text.replace(" ", "," if name.endswith("csv") else " "),
            name=name,
            **{"file": "2", "label": "3", "patient": "1", "where": "`4` != 'x'"},
        )
        assert listed(listing, "file", "class_name", "patient") == [
            ("a.png", "ILL", "3"),
            ("b.png", "NORMAL", "7"),
        ]


def test_where_chooses_rows_by_columns_and_by_roles(opened):
    text = (
        "path,Finding Labels,View Position,Patient Age\n"
        "a.png,ILL,PA,9\nb.png,NORMAL,AP,58\nc.png,ILL,XX,70\n"
    )
    listing = opened(text, where="view in ['PA', 'AP'] and patient_age >= 10")
    assert listed(listing) == [("b.png", "NORMAL")]
    assert listing.left_out == {"not chosen by manifest.where": 2}
    listing = opened(text, where="label == 'ILL' and `View Position` == 'PA'")
    assert listed(listing) == [("a.png", "ILL")]


def test_lateral_views_are_left_out_unless_all_views_are_wanted(opened):
    text = (
        "path,label,Frontal/Lateral,AP/PA\n"
        "a.png,ILL,Frontal,AP\nb.png,NORMAL,Frontal,\nc.png,ILL,Lateral,\n"
    )
    listing = opened(text)
    assert listed(listing, "file", "view") == [("a.png", "AP"), ("b.png", "Frontal")]
    assert listing.left_out == {"a lateral, decubitus or oblique view": 1}
    listing = opened(text, files="a.png b.png c.png", views="all")
    assert [view for (view,) in listed(listing, "view")] == ["AP", "Lateral", "Frontal"]


def test_words_that_name_no_split_are_listed(opened):
    text = "path,label,split\na.png,ILL,train\nb.png,ILL,A\nc.png,ILL,\n"
    with pytest.raises(ValueError, match=r"splits 'A' \(1 rows\), '' \(1 rows\)"):
        opened(text)
    listing = opened(text, where="split == 'train'")
    assert listed(listing) == [("a.png", "ILL")]
    listing = opened(text, files="a.png b.png c.png", split="none")
    assert listed(listing, "split") == [("train",)] * 3


def test_a_column_of_folds_is_no_split_unless_it_names_one(opened):
    text = "path,label,fold\na.png,ILL,{}\nb.png,NORMAL,{}\n"
    assert len(opened(text.format(0, 1)).entries) == 2
    listing = opened(text.format("train", "test"))
    assert listed(listing) == [("a.png", "ILL")]
    assert listing.left_out == {"of a test split": 1}
    with pytest.raises(ValueError, match=r"splits '1' \(1 rows\)"):
        opened(text.format("test", 1))


def test_lists_of_files_name_the_splits(opened, tmp_path):
    (tmp_path / "train_val_list.txt").write_text("a.png\nx/b.png\n")
    (tmp_path / "test_list.txt").write_text("c.png\n")
    text = "path,label\na.png,ILL\nb.png,NORMAL\nc.png,ILL\nd.png,ILL\n"
    lists = "train=train_val_list.txt, test=test_list.txt"
    listing = opened(text, split=lists)
    assert listed(listing) == [("a.png", "ILL"), ("b.png", "NORMAL")]
    left_out = {"of a test split": 1, "in no list of manifest.split": 1}
    assert listing.left_out == left_out
    with pytest.raises(FileNotFoundError, match=r"there is no file .*/absent.txt"):
        opened(text, split="train=absent.txt")
    with pytest.raises(ValueError, match="'trian' names no split"):
        opened(text, split="trian=test_list.txt")
    with pytest.raises(ValueError, match=r"'c.png' is also in the list of train"):
        (tmp_path / "train_val_list.txt").write_text("c.png\n")
        opened(text, split=lists)


def test_splits_in_the_names_of_folders_are_used_where_no_column_names_them(opened):
    listing = opened(
        "id,label\na,ILL\nb,NORMAL\nc,ILL\nd,ILL\ntest/absent,ILL\n",
        files="Train/a.png b.png x/Test/c.png Validation/d.png",
    )
    assert listed(listing, "file", "split") == [
        ("Train/a.png", "train"),
        ("b.png", "train"),
        ("Validation/d.png", "val"),
    ]
    assert listing.left_out == {"of a test split": 2}


@pytest.mark.parametrize(
    ("names", "files"),
    [
        ("a.png,b.png", "a.png b.png"),
        ("./a.png,sub/../b.png", "a.png b.png sub/c.png"),
        ("a.png,b.png", "images_001/a.png images_002/deep/b.png"),
        ("a,b", "x/a.dcm x/b.DICOM x/a.txt"),
        ("1.2.3,1.2.4", "1.2.3.dcm 1.2.4"),
        ("other/s1/v.jpg,other/s2/v.jpg", "s1/v.jpg s2/v.jpg"),
        ("C:\\data\\a.png,C:\\data\\b.png", "images/a.png images/b.png"),
        ("/gone/a.png,/gone/b.png", "a.png b.png .hidden/a.png __MACOSX/a.png ._a.png"),
    ],
)
def test_files_are_found_as_given_then_by_name_then_without_ending(
    opened, names, files
):
    first, second = names.split(",")
    listing = opened(f"path,label\n{first},A\n{second},B\n", files=files)
    assert [entry.class_name for entry in listing.entries] == ["A", "B"]
    assert all(entry.path.is_file() for entry in listing.entries)
    found = [
        entry.path.relative_to(listing.root).as_posix() for entry in listing.entries
    ]
    assert [entry.file for entry in listing.entries] == found
    assert found == files.split()[:2]


def test_files_are_searched_in_the_folder_of_images_and_may_be_absolute(
    opened, tmp_path
):
    make(tmp_path, "a.png elsewhere/a.png elsewhere/in/b.png other/c.png")
    text = f"path,label\na.png,A\nb,B\n{tmp_path}/other/c.png,C\n"
    listing = opened(text, files="", images=str(tmp_path / "elsewhere"))
    assert listing.root == tmp_path / "elsewhere"
    outside = f"{tmp_path}/other/c.png"
    assert listed(listing) == [("a.png", "A"), ("in/b.png", "B"), (outside, "C")]
    with pytest.raises(FileNotFoundError, match=r"manifest.images=absent: no such fol"):
        opened(text, images="absent")


def test_split_none_reads_all_as_train_but_no_folder_of_a_test_split(opened):
    text = "path,label,split\nval/a.png,ILL,x\nb.png,NORMAL,y\ntest/c.png,ILL,z\n"
    listing = opened(text, files="val/a.png b.png", split="none")
    assert listed(listing, "file", "split") == [
        ("val/a.png", "train"),
        ("b.png", "train"),
    ]
    assert listing.left_out == {"of a test split": 1}


def test_linked_folders_are_searched_once(opened, tmp_path):
    make(tmp_path, "disk/a.png disk/b.png")
    (tmp_path / "disk/loop").symlink_to(tmp_path / "disk")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/images").symlink_to(tmp_path / "disk")
    listing = opened(PLAIN, files="", name="set/set.csv")
    assert listed(listing) == [("images/a.png", "ILL"), ("images/b.png", "NORMAL")]


def test_missing_files_are_counted_and_the_first_five_named(opened):
    rows = "".join(f"x{i}.png,ILL\n" for i in range(7))
    text = f"{PLAIN}{rows}"
    message = r"7 of 9 files are not found, .* the 3 files in it: 'x0.png', .*'x4.png';"
    with pytest.raises(ValueError, match=message) as caught:
        opened(text)
    assert "x5.png" not in str(caught.value)
    listing = opened(text, on_error="skip")
    assert listed(listing) == [("a.png", "ILL"), ("b.png", "NORMAL")]
    assert listing.left_out == {"a file that was not found": 7}


def test_a_missing_file_with_another_ending_or_case_is_pointed_out(opened):
    for name in ("a.jpg", "A.PNG"):
        with pytest.raises(ValueError, match=r"; there is 'in/a.png'; give"):
            text = f"path,label\n{name},ILL\nx,NORMAL\n".replace("x,", "x.png,")
            opened(text, files="in/a.png b.png")


def test_dead_links_are_missing_files(opened, tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"1 of 2 files are not found.*: 'a.png'"):
        opened(PLAIN, files="b.png")


def test_names_that_fit_several_files_are_refused(opened):
    message = r"1 names fit several files in .*: 'a.png' \(x/a.png, y/a.png\)"
    with pytest.raises(ValueError, match=message):
        opened(PLAIN, files="x/a.png y/a.png b.png")
    with pytest.raises(ValueError, match=r"'a' \(a.dcm, a.png\)"):
        opened("id,label\na,ILL\n", files="a.png a.dcm")


def test_repeated_rows_are_one_entry(opened):
    text = "path,label,patient\na.png,ILL,\n./a.png,ILL,7\nb.png,NORMAL,8\n"
    listing = opened(text)
    assert listed(listing, "file", "patient") == [("a.png", "7"), ("b.png", "8")]
    assert listing.left_out == {"a repeated row of a file": 1}


@pytest.mark.parametrize("other", ["NORMAL,train,1", "ILL,val,1", "ILL,train,2"])
def test_rows_of_one_file_that_differ_are_refused_by_name(opened, other):
    files = [f"{i}.png" for i in range(7)]
    rows = [f"{file},{rest}" for file in files for rest in ("ILL,train,1", other)]
    text = "path,label,split,patient\n" + "\n".join(rows)
    message = r"7 files .* differ .*: '0.png' \(lines 2 and 3\), '1.png'"
    with pytest.raises(ValueError, match=message) as caught:
        opened(text, files=" ".join(files))
    assert "'4.png'" in str(caught.value) and "'5.png'" not in str(caught.value)


def test_a_folder_with_metadata_csv_is_read(opened, tmp_path):
    text = "file_name,label\ntrain/a.png,1\ntest/b.png,0\ntrain/c.png,0\n"
    opened(text, files="train/a.png train/c.png", name="metadata.csv")
    assert is_metadata_folder(tmp_path)
    listing = read(tmp_path)
    assert listed(listing) == [("train/c.png", "0"), ("train/a.png", "1")]
    assert listing.left_out == {"of a test split": 1}


def test_metadata_csv_in_the_folders_of_splits_are_read_together(opened, tmp_path):
    text = "file_name,label\n{}.png,ILL\nsub/{}.png,NORMAL\n"
    make(tmp_path, "train/a.png train/sub/b.png valid/e.png valid/sub/f.png")
    make(tmp_path, "test/c.png other/metadata.csv")
    for split, names in (("train", "ab"), ("test", "cd"), ("valid", "ef")):
        (tmp_path / split / "metadata.csv").write_text(text.format(*names))
    assert is_metadata_folder(tmp_path)
    assert not is_metadata_folder(tmp_path / "train/sub")
    listing = read(tmp_path)
    assert listed(listing, "file", "class_name", "split") == [
        ("train/a.png", "ILL", "train"),
        ("train/sub/b.png", "NORMAL", "train"),
        ("valid/e.png", "ILL", "val"),
        ("valid/sub/f.png", "NORMAL", "val"),
    ]
    assert listing.left_out == {"of a test split": 2}
    opened(PLAIN, name="metadata.csv")
    with pytest.raises(ValueError, match=r"has both metadata.csv and "):
        read(tmp_path)


def test_paths_that_are_no_manifest_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"absent.csv: no such manifest"):
        read("~/absent.csv")
    (tmp_path / "set.xlsx").touch()
    with pytest.raises(ValueError, match=r"must end in one of .csv, .tsv, .txt, .parq"):
        read("~/set.xlsx")
    with pytest.raises(FileNotFoundError, match=r"has no metadata.csv"):
        read("~")
    with pytest.raises(FileNotFoundError, match="no home directory"):
        read("~nobody_of_this_name/set.csv")


def test_a_manifest_without_rows_of_train_says_what_was_left_out(opened):
    text = "path,label,split\na.png,ILL,val\nb.png,ILL,test\nc.png,,train\n"
    message = (
        r"no image of train is left; 1 are of val, and left out are: of a test split "
        r"\(1 rows\), without a label \(1 rows\)"
    )
    with pytest.raises(ValueError, match=message):
        opened(text)


def test_a_row_without_a_file_is_refused(opened):
    with pytest.raises(ValueError, match="line 3 names no file in column 'path'"):
        opened("path,label\na.png,ILL\n,NORMAL\n")


def test_a_class_of_which_no_file_is_left_is_named(opened):
    with pytest.raises(ValueError, match="no image of class 'B' is left; left out are"):
        opened(
            "file,label\na.png,A\nb.png,A\nc.png,B\n",
            files="a.png b.png",
            on_error="skip",
        )
