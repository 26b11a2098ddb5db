import errno
import fcntl
import os
import pathlib
import subprocess
import sys

import pytest

from cxr_gan import disk, lock

ROOT = pathlib.Path(__file__).parents[1]
HOLD = """
import pathlib, sys
from cxr_gan import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_while_another_process_holds_it_a_folder_is_refused_by_its_number(
    tmp_path, holder
):
    with pytest.raises(lock.InUseError) as caught, lock.held(tmp_path):
        pass
    complaint = str(caught.value)
    assert f"{tmp_path} is in use by process {holder.pid} on " in complaint
    assert "give another --workdir" in complaint


def test_a_process_that_was_killed_leaves_no_lock_behind(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert str(holder.pid) in (tmp_path / lock.NAME).read_text()
    with lock.held(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / lock.NAME).read_text()


def test_a_lock_ends_with_its_block_whatever_happens_in_it(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), lock.held(tmp_path):
            raise KeyboardInterrupt


def test_two_trainings_of_one_process_exclude_each_other_too(tmp_path):
    with (
        lock.held(tmp_path),
        pytest.raises(lock.InUseError, match=f"process {os.getpid()} on "),
        lock.held(tmp_path),
    ):
        pass


def test_where_there_are_no_locks_it_is_said_and_the_folder_is_used(
    tmp_path, monkeypatch, caplog
):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with lock.held(tmp_path):
        assert f"{tmp_path}: no locks there" in caplog.text
        assert "No locks available" in caplog.text


def test_a_folder_that_takes_no_file_is_refused(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(pathlib.Path, "open", read_only)
    words = r"run.lock cannot be written \(Read-only file system\)"
    with pytest.raises(disk.DiskError, match=words), lock.held(tmp_path):
        pass
