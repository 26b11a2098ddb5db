import errno
import fcntl
import os
import pathlib
import subprocess
import sys

import pytest

from cxr_gan.storage import files, lock

ROOT = pathlib.Path(__file__).parents[1]
HOLD = """
import pathlib, sys
from cxr_gan.storage import lock
with lock.acquire(pathlib.Path(sys.argv[1])):
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


def test_folder_locked_by_another_process_is_refused_with_its_id(tmp_path, holder):
    with pytest.raises(lock.InUseError) as caught, lock.acquire(tmp_path):
        pass
    message = str(caught.value)
    assert f"{tmp_path} is in use by process {holder.pid} on " in message
    assert "give another --workdir" in message


def test_killed_process_leaves_no_lock_behind(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert str(holder.pid) in (tmp_path / lock.LOCK_NAME).read_text()
    with lock.acquire(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / lock.LOCK_NAME).read_text()


def test_lock_is_released_when_its_block_fails(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), lock.acquire(tmp_path):
            raise KeyboardInterrupt


def test_file_system_without_locks_only_causes_a_warning(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with lock.acquire(tmp_path):
        assert f"{tmp_path}: the file system has no locks" in caplog.text
        assert "No locks available" in caplog.text


def test_read_only_folder_is_refused(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(pathlib.Path, "touch", read_only)
    words = r"run.lock cannot be written \(Read-only file system\)"
    with pytest.raises(files.DiskError, match=words), lock.acquire(tmp_path):
        pass


def test_lock_file_that_cannot_be_opened_is_refused(tmp_path):
    (tmp_path / lock.LOCK_NAME).mkdir()
    with pytest.raises(files.DiskError, match=r"run\.lock"), lock.acquire(tmp_path):
        pass
