import errno
import pathlib

import pytest

from cxr_gan.storage import files


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/jane/chest_xray/", "chest_xray"),
        ("folder:/home/jane/set", "set"),
        ("runs/acgan@best", "acgan@best"),
        ("phantom:60", "phantom:60"),
        ("tfds:chest/32:1.0", "tfds:chest/32:1.0"),
    ],
)
def test_last_name_leaves_out_the_folders(path, name):
    assert files.last_name(path) == name


def test_atomic_write_creates_the_file_when_the_block_ends(tmp_path):
    path = tmp_path / "a.json"
    with files.atomic_write(path) as unfinished:
        unfinished.write_text("part")
        assert not path.exists()
        unfinished.write_text("complete")
    assert path.read_text() == "complete"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "x"), KeyboardInterrupt()])
def test_failed_atomic_write_keeps_the_old_file_and_no_partial_one(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with (
        pytest.raises((files.DiskError, KeyboardInterrupt)),
        files.atomic_write(path) as unfinished,
    ):
        unfinished.write_text("part")
        raise error
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("gs://b/runs/a", "gcloud storage rsync a gs://b/runs/a --recursive"),
        ("gs://b/runs/a/", "gcloud storage rsync a gs://b/runs/a/ --recursive"),
        ("s3://b/a", "aws s3 sync a s3://b/a"),
    ],
)
def test_url_of_a_bucket_is_refused_with_the_commands_to_copy_it(url, command):
    words = f"--workdir={url} is not a local fo.*=a,"
    with pytest.raises(ValueError, match=words) as refused:
        files.require_local_path(url, "--workdir")
    assert command in str(refused.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "https://x.org/sets/chest.zip?v=2",
            "not a local folder.*download it.*=chest$",
        ),
        ("hf://datasets/a/chest", "not a local folder.*download it.*=chest$"),
        ("file:///data/a%20b", "an address; give the path itself: dataset=/data/a b$"),
        ("file://localhost/data/x", "give the path itself: dataset=/data/x$"),
        ("file:/data/x", "give the path itself: dataset=/data/x$"),
    ],
)
def test_address_is_refused_with_what_to_give_in_its_place(url, words):
    with pytest.raises(ValueError, match=words):
        files.require_local_path(url, "dataset")


@pytest.mark.parametrize("path", ["runs/a", "/runs/a", "a b://c", "C:/runs"])
def test_local_path_is_accepted_unchanged(path):
    assert files.require_local_path(path, "--workdir") == pathlib.Path(path)


def test_nested_translation_names_only_the_inner_path(tmp_path):
    with (
        pytest.raises(files.DiskError) as caught,
        files.translate_os_errors(tmp_path / "outer"),
        files.translate_os_errors(tmp_path / "inner"),
    ):
        raise OSError("no strerror")
    assert str(caught.value).count("cannot be written") == 1
    assert "inner cannot be written (no strerror)" in str(caught.value)
