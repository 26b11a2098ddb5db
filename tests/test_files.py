import errno
import pathlib

import pytest

from cxr_gan.storage import files


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


@pytest.mark.parametrize("url", ["gs://b/runs/a", "gs://b/runs/a/", "s3://b/a"])
def test_url_is_refused_with_the_commands_to_copy_it(url):
    words = f"--workdir={url} is not a local fo.*=a,"
    with pytest.raises(ValueError, match=words) as refused:
        files.require_local_path(url, "--workdir")
    assert f"gcloud storage rsync a {url} --recursive" in str(refused.value)


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
