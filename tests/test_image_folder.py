"""Listing class folders: which files are images of which class and split."""

import os
from pathlib import Path

import pytest

from cxr_gan.data.formats import file_tree, image_folder
from cxr_gan.data.listing import ManifestOptions, ReadOptions, listing_fingerprint


@pytest.fixture
def make(tmp_path):
    def make(*names: str, content: bytes = b"") -> Path:
        """A folder with these files, and folders where a name ends with a slash."""
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            folder = path if name.endswith("/") else path.parent
            folder.mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_bytes(content)
        return root

    return make


def listed(root):
    return image_folder.open_folder(str(root), ReadOptions())


def classes_of(listing) -> dict[str, tuple[str, str]]:
    return {entry.file: (entry.split, entry.class_name) for entry in listing.entries}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["A/1.png", "B/2.png"], {"A/1.png": "train A", "B/2.png": "train B"}),
        (
            ["A/images/1.png", "B/images/x/y/2.png"],
            {"A/images/1.png": "train A", "B/images/x/y/2.png": "train B"},
        ),
        (
            ["outer/data/A/1.png", "outer/data/B/2.png", "outer/licence"],
            {"outer/data/A/1.png": "train A", "outer/data/B/2.png": "train B"},
        ),
        (
            ["train/A/p1/s1/1.jpg", "train/B/p2/s1/2.jpg"],
            {"train/A/p1/s1/1.jpg": "train A", "train/B/p2/s1/2.jpg": "train B"},
        ),
        (
            ["part/train/images/A/1.png", "part/train/images/B/2.png"],
            {
                "part/train/images/A/1.png": "train A",
                "part/train/images/B/2.png": "train B",
            },
        ),
    ],
)
def test_class_is_the_folder_below_the_split_or_the_root(make, names, expected):
    found = classes_of(listed(make(*names)))
    assert {file: " ".join(where) for file, where in found.items()} == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("val", ["val", "valid", "Validation", "DEV"])
@pytest.mark.parametrize("test", ["test", "Testing", "hold-out"])
def test_splits_are_known_in_any_case_and_spelling(make, train, val, test):
    names = [f"{split}/{c}/1.png" for split in (train, val, test) for c in "AB"]
    found = listed(make(*names))
    assert classes_of(found) == {
        f"{train}/A/1.png": ("train", "A"),
        f"{train}/B/1.png": ("train", "B"),
        f"{val}/A/1.png": ("val", "A"),
        f"{val}/B/1.png": ("val", "B"),
    }
    assert found.left_out == {"of a test split": 2}


def test_files_of_a_test_split_are_never_opened(make, monkeypatch):
    root = make("A/1.png", "B/2.png", "Test/3", "Test/A/4.png")
    opened = []
    monkeypatch.setattr(Path, "open", lambda path, *_: opened.append(path))
    found = listed(root)
    assert {entry.class_name for entry in found.entries} == {"A", "B"}
    assert found.left_out == {"of a test split": 2}
    assert not opened


def test_a_copy_of_the_set_within_it_is_not_read_twice(make):
    names = [f"train/{c}/1.png" for c in "AB"]
    found = listed(make(*names, *(f"copy/{name}" for name in names)))
    assert list(classes_of(found)) == names
    assert found.left_out == {"beside the folders of the splits": 2}


def test_masks_hidden_unlabelled_and_stray_files_are_left_out_and_counted(make):
    found = listed(
        make(
            *("A/images/1.png", "A/masks/1.png", "B/images/2.png", "B/Lung Mask/2.png"),
            *("__MACOSX/A/._1.png", ".git/config", "A/images/._1.png", "A/.DS_Store"),
            *("unlabeled/3.png", "4.png", "A/notes.txt", "more.zip"),
        )
    )
    assert list(classes_of(found)) == ["A/images/1.png", "B/images/2.png"]
    assert found.left_out == {
        "of a folder of masks": 2,
        "hidden": 4,
        "of a folder of unlabelled images": 1,
        "beside the class folders": 1,
        "no image": 2,
    }
    (note,) = found.notes
    assert "2 files that are no images, such as 'A/notes.txt', 'more.zip'" in note


@pytest.mark.parametrize(
    ("content", "is_image"),
    [
        (b"\xff\xd8\xff\xe0 JFIF", True),
        (b"\x89PNG\r\n\x1a\n", True),
        (b"II*\0", True),
        (b"\0" * 128 + b"DICM", True),
        (b"\n" * 128 + b"DICM", True),
        (b"\0" * 127 + b"DICM", False),
        (b"", False),
        (b"a,b\n1,2\n", False),
    ],
)
@pytest.mark.parametrize("name", ["IM0001", "1.2.840.10008", "x.txt"])
def test_a_file_of_another_ending_is_an_image_by_its_content(
    make, content, is_image, name
):
    root = make(f"A/{name}", content=content)
    found = listed(make("A/1.dcm", "B/1.DCM", "B/2.jfif", "B/3.TIF"))
    assert (f"A/{name}" in classes_of(found)) == is_image
    assert len(found.entries) == 4 + is_image
    assert root == found.root


def test_links_are_followed_but_not_in_circles_or_to_nothing(make, tmp_path):
    root = make("A/1.png", "B/2.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/3.png").write_bytes(b"")
    (root / "A/linked").symlink_to(tmp_path / "elsewhere")
    (root / "A/up").symlink_to(root)
    (root / "A/self").symlink_to(root / "A/self")
    (root / "A/gone.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(root / "A/pipe.png")  # to open it would wait for ever
    found = listed(root)
    assert list(classes_of(found)) == ["A/1.png", "A/linked/3.png", "B/2.png"]
    assert found.left_out == {"a link to a folder above it": 1, "no file": 3}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "set: no images found, only empty folders; expected root/"),
        (["a.txt", "b.txt", "c"], "only 2 .txt, 1 without ending; expected root/"),
        (["test/A/1.png"], "no images found, only 1 of a test split;"),
        (["a.zip"], "only 1 .zip; unpack the archive first: unzip .*set/a.zip"),
        (["a.npz"], "give the file: --config.dataset=.*set/a.npz"),
        (
            ["1.png", "2.png"],
            r"the images in '\.' are not in class folders, .*'NORMAL'",
        ),
        (
            ["Train/1.png", "Test/2.png", "labels.csv", "code/x.csv"],
            "images in 'Train' are not in class folders, .*'Train/NORMAL'; or did you "
            "mean --config.dataset=.*set/labels.csv, a manifest",
        ),
        (["images/1.png", "labels.csv"], "images in 'images' are .*set/labels.csv"),
        (["A/train/1.png", "A/test/1.png"], "images in 'A/train' are not in class"),
        (["A/1.png", "B/1.png", "val/A/1.png"], "set: has val but no train"),
        (["train/1.png", "test.csv", "x.txt"], "class folders, .* or give a manifest"),
        (["train/1.png", "test.csv", "train.txt"], "did you mean .*set/train.txt, a"),
        (["train/1.png"], "such as 'train/NORMAL'; or give a manifest, a .csv file"),
        (["trian/A/1.png", "trian/B/1.png", "Test/1.png"], "did you mean 'train'"),
        (["train/A/1.png", "train/B/1.png", "vald/A/1.png"], "did you mean 'val"),
        (["train/A/1.png", "train/B/1.png", "tets/A/1.png"], "did you mean 'test'"),
        (["trian/1.png", "tset/1.png"], "set/trian: .* did you mean 'train'"),
        (["train/A/0.png", "train/B/"], "set/train/B: empty class: no image"),
        (["A/0.png", "B/", "C/1.png"], "set/B: empty class: no image"),
        (["A/1.png", "B/masks/1.png", "C/1.png"], "set/B: empty class: no image"),
        (["inner/train/A/0.png"], "class folders, of which there must be two or more"),
        (
            ["train/A/0.png", "train/B/0.png", "val/A/0.png"],
            "class 'B' is in train but not in val.* or remove val to have",
        ),
        (
            ["train/A/0.png", "val/B/0.png", "val/A/0.png"],
            "class 'B' is in val but not in train",
        ),
        (
            ["train/NORMAL/1.png", "train/B/1.png", "val/Normal/1.png", "val/B/1.png"],
            "classes 'NORMAL' and 'Normal' differ in case or blanks only",
        ),
        (
            ["stage_2_train_images/1.dcm", "stage_2_test_images/2.dcm"],
            "'stage_2_test_images' would be a class, but names a split",
        ),
        (
            ["images_001/images/1.png", "images_002/images/2.png", "Entries.csv"],
            "'images_001' would be a class, but numbers a part .*set/Entries.csv",
        ),
        (
            ["train/patient00001/study1/1.jpg", "train/patient00002/study1/1.jpg"],
            "'patient00001' would be a class, but numbers",
        ),
        ([f"{i:05}/1.png" for i in range(21)], "'00000' would be a class, but numb"),
    ],
)
def test_folder_that_cannot_be_trained_on_is_answered(make, names, message):
    with pytest.raises(ValueError, match=message):
        listed(make(*names))


def test_class_whose_name_resembles_a_split_is_a_class(make):
    found = listed(make("Viral/1.png", "Normal/1.png", "Test/1.png"))
    assert {entry.class_name for entry in found.entries} == {"Viral", "Normal"}


def test_few_classes_may_be_called_by_numbers(make):
    found = listed(make("0/1.png", "1/1.png"))
    assert {entry.class_name for entry in found.entries} == {"0", "1"}


def test_split_without_images_is_noted(make):
    (note,) = listed(make("train/A/1.png", "train/B/1.png", "val/")).notes
    assert "set/val: named as a split, but has no images" in note


@pytest.mark.parametrize(
    "name", [b"A/M\xfcller.png", b"A/M\xfcller/1.png", b"M\xfcller/1.png"]
)
def test_name_that_is_not_utf8_is_shown_escaped(make, name):
    root = make("A/1.png", "B/1.png", os.fsdecode(name))
    with pytest.raises(ValueError, match=r"M\\udcfcller.*: the name is not UTF-8"):
        listed(root)


@pytest.mark.parametrize("refused", ["os.scandir", "pathlib.Path.open"])
def test_what_cannot_be_read_is_named(make, monkeypatch, refused):
    # Injected, because the user root can read everything.
    root = make("A/1.png", "B/notes")

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(refused, refuse)
    with pytest.raises(ValueError, match=r"cannot be read \(Permission denied\); chan"):
        listed(root)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder; check the"):
        listed(tmp_path / "nowhere")


def test_options_of_a_manifest_are_refused(make):
    root = make("A/1.png", "B/1.png", "labels.csv")
    options = ReadOptions(manifest=ManifestOptions(label="finding"))
    with pytest.raises(ValueError, match=r"options of a manifest .*set/labels\.csv"):
        image_folder.open_folder(str(root), options)


def test_fingerprint_changes_with_any_file_and_class(make):
    root = make("train/A/1.png", "train/B/2.png")
    seen = {listing_fingerprint(listed(root))}
    assert listing_fingerprint(listed(root)) in seen
    for change in (
        lambda: (root / "train/A/1.png").write_bytes(b"longer"),
        lambda: os.utime(root / "train/A/1.png", ns=(1, 1)),
        lambda: (root / "train/A/1.png").rename(root / "train/A/3.png"),
        lambda: (root / "train/A").rename(root / "train/C"),
    ):
        change()
        seen.add(listing_fingerprint(listed(root)))
    assert len(seen) == 5


def test_unpack_command_knows_archives_by_their_ending():
    assert file_tree.unpack_command(Path("a.tgz")) == "tar -xf a.tgz"
    assert file_tree.unpack_command(Path("a b.nii.gz")) == "gunzip 'a b.nii.gz'"
    assert file_tree.unpack_command(Path("a.png")) is None
