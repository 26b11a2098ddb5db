"""Mirroring a run to a bucket: TensorStore's file driver, and a local server."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import chex
import fake_bucket
import pytest
import tensorstore as ts
from tiny_runs import STEP_KIMG, checkpoint_steps

from cxr_gan.runtime import workdir
from cxr_gan.storage import gcs_lease, gcs_mirror, lock
from cxr_gan.storage.gcs_mirror import BucketError, Mirror
from cxr_gan.training import loop, run_record

ROOT = pathlib.Path(__file__).parents[1]
SHORT = {"sync_interval": 0.05, "lease_timeout": 0.5}  # seconds
TEST_TIMEOUT = 30.0  # seconds until a test fails


@pytest.fixture(scope="module")
def server():
    """A local server with the bucket gs://my-bucket."""
    with fake_bucket.serve() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        yield


@pytest.fixture
def address(tmp_path):
    """Address of an empty folder that TensorStore treats like a bucket."""
    return f"file://{tmp_path}/bucket/a/"


@pytest.fixture
def in_bucket(tmp_path):
    return tmp_path / "bucket" / "a"


def machine(tmp_path, number: int) -> pathlib.Path:
    """The local folder of the run on that machine."""
    return tmp_path / f"machine{number}" / "a"


def write(folder: pathlib.Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def read(folder: pathlib.Path) -> dict[str, str]:
    """{name: content} of every file except the lease."""
    files = [
        p for p in folder.rglob("*") if p.is_file() and p.name != gcs_lease.LEASE_NAME
    ]
    return {p.relative_to(folder).as_posix(): p.read_text() for p in files}


def wait_until(condition) -> None:
    end = time.monotonic() + TEST_TIMEOUT
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):  # files come and go
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError(f"not fulfilled within {TEST_TIMEOUT} s")


RUN = {"run.json": "{}", "checkpoints__1__x": "one", "metrics.jsonl": "1\n"}
COPIED = {name.replace("__", "/"): content for name, content in RUN.items()}


def test_changed_files_are_copied_during_training(tmp_path, address, in_bucket):
    with Mirror(address, machine(tmp_path, 1), **SHORT) as mirror:
        write(mirror.folder, **RUN)
        wait_until(lambda: read(in_bucket) == COPIED)
        write(mirror.folder, **{"metrics.jsonl": "1\n2\n", "checkpoints__2__x": "two"})
        shutil.rmtree(mirror.folder / "checkpoints" / "1")
        expected = {
            "run.json": "{}",
            "metrics.jsonl": "1\n2\n",
            "checkpoints/2/x": "two",
        }
        wait_until(lambda: read(in_bucket) == expected)


def test_run_continues_on_another_machine_without_partial_files_and_the_lock(
    tmp_path, address, in_bucket
):
    partial = {
        "checkpoints__2.orbax-checkpoint-tmp-1__x": "part",
        "run.unfinished": "part",
        lock.LOCK_NAME: "process 1",
    }
    with Mirror(address, machine(tmp_path, 1), **SHORT) as mirror:
        write(mirror.folder, **RUN, **partial)
    assert read(in_bucket) == COPIED
    with Mirror(address, machine(tmp_path, 2), **SHORT) as second:
        assert read(second.folder) == COPIED


def test_only_checkpoints_are_deleted_in_the_bucket(tmp_path, address, in_bucket):
    with Mirror(address, machine(tmp_path, 1), **SHORT) as mirror:
        write(mirror.folder, **RUN)
    write(in_bucket, **{"notes.txt": "mine", "checkpoints__0__x": "deleted locally"})
    with Mirror(address, machine(tmp_path, 1), **SHORT):
        (mirror.folder / "metrics.jsonl").unlink()
    assert read(in_bucket) == {**COPIED, "notes.txt": "mine"}


def test_second_machine_is_refused_while_the_first_sends_heartbeats(tmp_path, address):
    with Mirror(address, machine(tmp_path, 1), **SHORT):
        words = rf"{address} is in use by process {os.getpid()} on .* another --workdir"
        with (
            pytest.raises(lock.InUseError, match=words),
            Mirror(address, machine(tmp_path, 2), **SHORT),
        ):
            pass
    assert not machine(tmp_path, 2).exists()


def test_second_process_on_the_same_machine_is_refused_at_once(tmp_path, address):
    with (
        Mirror(address, machine(tmp_path, 1), **SHORT),
        pytest.raises(lock.InUseError, match=f"in use by process {os.getpid()} on "),
        Mirror(address, machine(tmp_path, 1), **SHORT),
    ):
        pass


def kill(mirror: Mirror) -> None:
    """As if its machine were gone: no more copies, no release of the lease."""
    mirror._stop.set()
    mirror._thread.join()
    mirror._local_lock.close()


def test_next_machine_takes_over_from_one_that_is_gone(tmp_path, address, caplog):
    gone = Mirror(address, machine(tmp_path, 1), **SHORT).__enter__()
    write(gone.folder, **RUN)
    gone._copy()
    kill(gone)
    write(gone.folder, late="never copied")
    with Mirror(address, machine(tmp_path, 2), **SHORT) as next_one:
        assert read(next_one.folder) == COPIED
        write(next_one.folder, **{"metrics.jsonl": "1\n2\n"})
    assert "which did not shut down cleanly. Waiting 0.5 s" in caplog.text
    with Mirror(address, machine(tmp_path, 1), **SHORT) as returned:
        assert read(returned.folder) == {**COPIED, "metrics.jsonl": "1\n2\n"}
    (old,) = returned.folder.parent.glob("a.until-*")  # nothing is deleted
    assert read(old) == {**COPIED, "late": "never copied"}


def test_same_machine_resumes_at_once_with_uncopied_files(tmp_path, address, in_bucket):
    gone = Mirror(address, machine(tmp_path, 1), **SHORT).__enter__()
    kill(gone)
    write(gone.folder, **RUN)
    began = time.monotonic()
    with Mirror(
        address, machine(tmp_path, 1), sync_interval=0.05, lease_timeout=TEST_TIMEOUT
    ):
        assert time.monotonic() - began < TEST_TIMEOUT / 2
    assert read(in_bucket) == COPIED


def test_machine_whose_lease_was_taken_over_stops_and_copies_nothing(
    tmp_path, address, in_bucket, monkeypatch
):
    received = []
    monkeypatch.setattr(os, "kill", lambda _, number: received.append(number))
    slow = Mirror(address, machine(tmp_path, 1), **SHORT).__enter__()
    write(in_bucket, **{gcs_lease.LEASE_NAME: json.dumps(other := {
        "holder": "process 7 on elsewhere", "token": "x", "beats": 1, "ended": False
    })})  # fmt: skip
    wait_until(lambda: received)
    write(slow.folder, **RUN)
    words = f"taken over by process 7 on elsewhere; .* exists only in {slow.folder}"
    with pytest.raises(BucketError, match=words):
        slow.__exit__(None, None, None)
    assert received == [signal.SIGTERM]
    assert read(in_bucket) == {}
    assert json.loads((in_bucket / gcs_lease.LEASE_NAME).read_text()) == other


def test_folder_of_other_files_is_refused_and_unchanged(tmp_path, address, in_bucket):
    write(in_bucket, **{"NORMAL__1.png": "a radiograph"})
    with (
        pytest.raises(BucketError, match=r"not a cxr_gan run: it has no run\.json"),
        Mirror(address, machine(tmp_path, 1), **SHORT),
    ):
        pass
    assert read(in_bucket) == {"NORMAL/1.png": "a radiograph"}
    assert not (in_bucket / gcs_lease.LEASE_NAME).exists()
    assert not machine(tmp_path, 1).exists()


def test_interrupted_first_copy_is_recognised_as_a_run(tmp_path, address, in_bucket):
    gone = Mirror(address, machine(tmp_path, 1), sync_interval=TEST_TIMEOUT).__enter__()
    write(gone.folder, **RUN)
    write(in_bucket, checkpoints="a file where a folder has to be")
    with pytest.raises(ValueError):
        gone._copy()
    kill(gone)
    (in_bucket / "checkpoints").unlink()
    with Mirror(address, machine(tmp_path, 2), **SHORT) as next_one:
        assert read(next_one.folder) == {"run.json": "{}"}


def test_failed_copy_is_logged_and_retried(tmp_path, address, in_bucket, caplog):
    with Mirror(address, machine(tmp_path, 1), **SHORT) as mirror:
        in_bucket.chmod(0o500) if os.getuid() else write(in_bucket, a="a folder's name")
        write(mirror.folder, a__b="b", **RUN)
        wait_until(lambda: "cannot be read and written" in caplog.text)
        in_bucket.chmod(0o700) if os.getuid() else (in_bucket / "a").unlink()
    assert read(in_bucket) == {**COPIED, "a/b": "b"}


def test_failed_last_copy_raises_and_names_the_local_folder(
    tmp_path, address, in_bucket
):
    words = f"The end of the run exists only in {machine(tmp_path, 1)}; the same comm"
    with (
        pytest.raises(BucketError, match=words),
        Mirror(address, machine(tmp_path, 1), sync_interval=TEST_TIMEOUT) as mirror,
    ):
        write(in_bucket, checkpoints="a file where a folder has to be")
        write(mirror.folder, **RUN)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://b/a", "is not a local folder"),
        *(
            (url, "does not name a folder in a bucket")
            for url in ("gs://b", "gs://b/", "gs:///a", "gs://b/a//c")
        ),
    ],
)
def test_local_folder_is_accepted_and_other_addresses_are_refused(tmp_path, url, words):
    with workdir.open_workdir(str(tmp_path)) as folder:
        assert folder == tmp_path
    refused = pytest.raises(ValueError, match=f"--workdir={url} {words}")
    with refused, workdir.open_workdir(url):
        pass


def test_run_moved_over_a_server_ends_bit_for_bit_as_uninterrupted(
    server, open_run, final_checkpoint, tmp_path, monkeypatch
):
    uninterrupted = open_run(tmp_path / "uninterrupted")
    loop.train(uninterrupted)
    for number, kimg in enumerate((2 * STEP_KIMG, 4 * STEP_KIMG, 6 * STEP_KIMG)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine{number}"))
        with workdir.open_workdir("gs://my-bucket/runs/a") as folder:
            assert tmp_path / f"machine{number}" in folder.parents
            run = open_run(folder, total_kimg=kimg)
            if not number:
                run_record.claim_workdir(folder, run.record())
            loop.train(run)
    chex.assert_trees_all_equal(
        final_checkpoint(run)[0], final_checkpoint(uninterrupted)[0]
    )
    store = ts.KvStore.open("gs://my-bucket/runs/a/").result()
    other = ts.KvStore.open("gs://my-bucket/runs/b/").result()
    other.write("x", "of another run").result()
    names = [name.decode() for name in store.list().result()]
    assert {name.split("/")[1] for name in names if "checkpoints/" in name} == {
        str(step) for step in checkpoint_steps(run)
    }
    assert store.read("metrics.jsonl").result().value.count(b"\n") == 4


def test_lease_on_a_server_is_refused_and_taken_over(server, tmp_path, monkeypatch):
    received = []
    monkeypatch.setattr(os, "kill", lambda _, number: received.append(number))
    address = "gs://my-bucket/runs/c/"
    first = Mirror(address, machine(tmp_path, 1), **SHORT).__enter__()
    with (
        pytest.raises(lock.InUseError),
        Mirror(address, machine(tmp_path, 2), **SHORT),
    ):
        pass
    kill(first)
    with Mirror(address, machine(tmp_path, 2), **SHORT):
        first._lease.renew()
        assert first._lease.taken_over_by.startswith(f"process {os.getpid()} on ")
    assert not received


def test_missing_bucket_is_reported_before_training(server, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gcs_mirror, "RETRIES", 1)
    with (
        pytest.raises(BucketError, match=r"gs://no-bucket/a/ cannot be read and writ"),
        workdir.open_workdir("gs://no-bucket/a"),
    ):
        pass


@pytest.mark.slow
def test_command_trains_in_a_bucket(server, tmp_path):
    def command(number: int, kimg: str) -> str:
        flags = (
            *("--config=configs/quick.py", "--config.dataset=phantom:60"),
            *(f"--config.total_kimg={kimg}", "--config.eval_kimg=0.0"),
            "--workdir=gs://my-bucket/runs/typed",
        )
        done = subprocess.run(
            [sys.executable, "-m", "cxr_gan.main", *flags],
            cwd=ROOT,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / f"machine{number}")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        output: str = done.stdout + done.stderr
        return output

    assert "0.1 of 0.128 kimg: finished" in command(1, "0.128")
    assert "step 9 of 16" in command(2, "0.256")
