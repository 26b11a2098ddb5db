import errno
import pathlib

import pytest

from cxr_gan import disk


def test_a_file_is_there_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "a.json"
    with disk.whole(path) as unfinished:
        unfinished.write_text("half")
        assert not path.exists()
        unfinished.write_text("whole")
    assert path.read_text() == "whole"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "x"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_the_old_file_and_no_half_one(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises((disk.DiskError, KeyboardInterrupt)), disk.whole(path) as half:
        half.write_text("ha")
        raise error
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("given", ["gs://b/runs/a", "gs://b/runs/a/", "s3://b/a"])
def test_an_address_is_no_folder_and_it_is_said_how_to_copy(given):
    with pytest.raises(ValueError, match=f"--workdir={given} is no fo.*=a,") as refused:
        disk.local(given, "--workdir")
    assert f"gcloud storage rsync a {given} --recursive" in str(refused.value)


@pytest.mark.parametrize("given", ["runs/a", "/runs/a", "a b://c", "C:/runs"])
def test_a_path_is_what_it_was(given):
    assert disk.local(given, "--workdir") == pathlib.Path(given)


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="not on Linux")
def test_a_full_disk_is_named_with_the_file_and_what_to_do(tmp_path):
    (tmp_path / "a.unfinished").symlink_to("/dev/full")
    words = r"a.json cannot be written \(No space left on device\); make room or mend"
    with (
        pytest.raises(disk.DiskError, match=words),
        disk.whole(tmp_path / "a.json") as f,
    ):
        f.write_text("whole")


def test_a_complaint_is_not_told_twice(tmp_path):
    with (
        pytest.raises(disk.DiskError) as caught,
        disk.writing(tmp_path / "outer"),
        disk.writing(tmp_path / "inner"),
    ):
        raise OSError("no words of the system")
    assert str(caught.value).count("cannot be written") == 1
    assert "inner cannot be written (no words of the system)" in str(caught.value)


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(ValueError, match="mine"), disk.writing(tmp_path):
        raise ValueError("mine")
