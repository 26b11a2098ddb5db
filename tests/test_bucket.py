"""A run in a bucket: against TensorStore's own folders, and over the wire."""

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
from rounds import ROUND, steps_of

from cxr_gan import bucket, lease, lock, train
from cxr_gan.bucket import BucketError, Mirror

ROOT = pathlib.Path(__file__).parents[1]
SOON = {"every": 0.05, "silence": 0.5}  # seconds
DEAD = 30.0  # seconds until a test gives up


@pytest.fixture(scope="module")
def server():
    """gs://my-bucket, on this machine."""
    with fake_bucket.serving() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        yield


@pytest.fixture
def address(tmp_path):
    """Of an empty place that keeps to the rules of a bucket."""
    return f"file://{tmp_path}/bucket/a/"


@pytest.fixture
def in_bucket(tmp_path):
    return tmp_path / "bucket" / "a"


def machine(tmp_path, number: int) -> pathlib.Path:
    """Where that machine keeps the run."""
    return tmp_path / f"machine{number}" / "a"


def write(folder: pathlib.Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def read(folder: pathlib.Path) -> dict[str, str]:
    """Every file but the lease."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != lease.NAME]
    return {p.relative_to(folder).as_posix(): p.read_text() for p in files}


def until(happened) -> None:
    end = time.monotonic() + DEAD
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):  # files come and go
            if happened():
                return
        time.sleep(0.02)
    raise AssertionError("it never happened")


RUN = {"run.json": "{}", "checkpoints__1__x": "one", "metrics.jsonl": "1\n"}
KEPT = {name.replace("__", "/"): content for name, content in RUN.items()}


def test_what_is_trained_here_goes_on_there(tmp_path, address):
    with Mirror(address, machine(tmp_path, 1), **SOON) as first:
        write(first.folder, **RUN)
    with Mirror(address, machine(tmp_path, 2), **SOON) as second:
        assert read(second.folder) == KEPT


def test_what_changes_is_copied_while_it_trains(tmp_path, address, in_bucket):
    with Mirror(address, machine(tmp_path, 1), **SOON) as mirror:
        write(mirror.folder, **RUN)
        until(lambda: read(in_bucket) == KEPT)
        write(mirror.folder, **{"metrics.jsonl": "1\n2\n", "checkpoints__2__x": "two"})
        shutil.rmtree(mirror.folder / "checkpoints" / "1")
        wanted = {
            "run.json": "{}",
            "metrics.jsonl": "1\n2\n",
            "checkpoints/2/x": "two",
        }
        until(lambda: read(in_bucket) == wanted)


def test_half_checkpoints_half_files_and_the_lock_stay_here(
    tmp_path, address, in_bucket
):
    half = {
        "checkpoints__2.orbax-checkpoint-tmp-1__x": "ha",
        "run.unfinished": "ha",
        lock.NAME: "process 1",
    }
    with Mirror(address, machine(tmp_path, 1), **SOON) as mirror:
        write(mirror.folder, **RUN, **half)
    assert read(in_bucket) == KEPT


def test_only_checkpoints_are_deleted_in_the_bucket(tmp_path, address, in_bucket):
    with Mirror(address, machine(tmp_path, 1), **SOON) as mirror:
        write(mirror.folder, **RUN)
    write(in_bucket, **{"notes.txt": "mine", "checkpoints__0__x": "gone here"})
    with Mirror(address, machine(tmp_path, 1), **SOON):
        (mirror.folder / "metrics.jsonl").unlink()
    assert read(in_bucket) == {**KEPT, "notes.txt": "mine"}


def test_a_second_machine_is_refused_while_the_first_gives_signs_of_life(
    tmp_path, address
):
    with Mirror(address, machine(tmp_path, 1), **SOON):
        words = rf"{address} is in use by process {os.getpid()} on .* another --workdir"
        with (
            pytest.raises(lock.InUseError, match=words),
            Mirror(address, machine(tmp_path, 2), **SOON),
        ):
            pass
    assert not machine(tmp_path, 2).exists()


def test_a_second_process_of_the_same_machine_is_refused_at_once(tmp_path, address):
    with (
        Mirror(address, machine(tmp_path, 1), **SOON),
        pytest.raises(lock.InUseError, match=f"in use by process {os.getpid()} on "),
        Mirror(address, machine(tmp_path, 1), **SOON),
    ):
        pass


def killed(mirror: Mirror) -> None:
    """As if its machine were gone: nothing is copied any more, nothing said."""
    mirror._end.set()
    mirror._thread.join()
    mirror._held.close()


def test_a_machine_that_is_gone_is_followed_by_the_next(tmp_path, address, caplog):
    gone = Mirror(address, machine(tmp_path, 1), **SOON).__enter__()
    write(gone.folder, **RUN)
    gone._copy()
    killed(gone)
    write(gone.folder, late="never copied")
    with Mirror(address, machine(tmp_path, 2), **SOON) as next_one:
        assert read(next_one.folder) == KEPT
        write(next_one.folder, **{"metrics.jsonl": "1\n2\n"})
    assert "which did not say goodbye; waiting 0.5 s" in caplog.text
    with Mirror(address, machine(tmp_path, 1), **SOON) as back:
        assert read(back.folder) == {**KEPT, "metrics.jsonl": "1\n2\n"}
    (aside,) = back.folder.parent.glob("a.until-*")  # nothing is lost
    assert read(aside) == {**KEPT, "late": "never copied"}


def test_the_same_machine_goes_on_at_once_with_what_was_never_copied(
    tmp_path, address, in_bucket
):
    gone = Mirror(address, machine(tmp_path, 1), **SOON).__enter__()
    killed(gone)
    write(gone.folder, **RUN)
    began = time.monotonic()
    with Mirror(address, machine(tmp_path, 1), every=0.05, silence=DEAD):
        assert time.monotonic() - began < DEAD / 2
    assert read(in_bucket) == KEPT


def test_a_machine_that_was_taken_for_dead_stops_and_copies_no_more(
    tmp_path, address, in_bucket, monkeypatch
):
    heard = []
    monkeypatch.setattr(os, "kill", lambda _, number: heard.append(number))
    slow = Mirror(address, machine(tmp_path, 1), **SOON).__enter__()
    write(in_bucket, **{lease.NAME: json.dumps(other := {
        "holder": "process 7 on elsewhere", "token": "x", "beats": 1, "ended": False
    })})  # fmt: skip
    until(lambda: heard)
    write(slow.folder, **RUN)
    words = f"taken over by process 7 on elsewhere; .* in {slow.folder} alone"
    with pytest.raises(BucketError, match=words):
        slow.__exit__(None, None, None)
    assert heard == [signal.SIGTERM]
    assert read(in_bucket) == {}
    assert json.loads((in_bucket / lease.NAME).read_text()) == other


def test_a_folder_of_other_things_is_refused_and_left_as_it_is(
    tmp_path, address, in_bucket
):
    write(in_bucket, **{"NORMAL__1.png": "a radiograph"})
    with (
        pytest.raises(ValueError, match=r"no run of ours: it has no run\.json"),
        Mirror(address, machine(tmp_path, 1), **SOON),
    ):
        pass
    assert read(in_bucket) == {"NORMAL/1.png": "a radiograph"}
    assert not (in_bucket / lease.NAME).exists()
    assert not machine(tmp_path, 1).exists()


def test_a_first_copy_that_broke_off_is_a_run_all_the_same(
    tmp_path, address, in_bucket
):
    gone = Mirror(address, machine(tmp_path, 1), every=DEAD).__enter__()
    write(gone.folder, **RUN)
    write(in_bucket, checkpoints="a file where a folder has to be")
    with pytest.raises(ValueError):
        gone._copy()
    killed(gone)
    (in_bucket / "checkpoints").unlink()
    with Mirror(address, machine(tmp_path, 2), **SOON) as next_one:
        assert read(next_one.folder) == {"run.json": "{}"}


def test_a_copy_that_fails_is_told_and_tried_again(
    tmp_path, address, in_bucket, caplog
):
    with Mirror(address, machine(tmp_path, 1), **SOON) as mirror:
        in_bucket.chmod(0o500) if os.getuid() else write(in_bucket, a="a folder's name")
        write(mirror.folder, a__b="b", **RUN)
        until(lambda: "cannot be read and written" in caplog.text)
        in_bucket.chmod(0o700) if os.getuid() else (in_bucket / "a").unlink()
    assert read(in_bucket) == {**KEPT, "a/b": "b"}


def test_an_end_that_cannot_be_copied_is_said_to_be_here_alone(
    tmp_path, address, in_bucket
):
    words = f"The end of the run is in {machine(tmp_path, 1)} alone; the same command"
    with (
        pytest.raises(BucketError, match=words),
        Mirror(address, machine(tmp_path, 1), every=DEAD) as mirror,
    ):
        write(in_bucket, checkpoints="a file where a folder has to be")
        write(mirror.folder, **RUN)


@pytest.mark.parametrize("given", ["gs://b", "gs://b/", "gs:///a", "gs://b/a//c"])
def test_an_address_has_to_name_a_folder(given):
    with (
        pytest.raises(ValueError, match=rf"--workdir={given} names no folder in a b"),
        bucket.workdir(given),
    ):
        pass


def test_a_folder_of_this_machine_is_what_it_was_and_others_are_refused(tmp_path):
    with bucket.workdir(str(tmp_path)) as folder:
        assert folder == tmp_path
    with pytest.raises(ValueError, match="is no folder of"), bucket.workdir("s3://b/a"):
        pass


def test_over_the_wire_a_run_goes_on_elsewhere_and_ends_as_unbroken(
    server, open_run, end_of, tmp_path, monkeypatch
):
    unbroken = open_run(tmp_path / "unbroken")
    train.train(unbroken)
    for number, kimg in enumerate((2 * ROUND, 4 * ROUND, 6 * ROUND)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine{number}"))
        with bucket.workdir("gs://my-bucket/runs/a") as folder:
            assert tmp_path / f"machine{number}" in folder.parents
            run = open_run(folder, total_kimg=kimg)
            if not number:
                write(folder, **{"run.json": "{}"})
            train.train(run)
    chex.assert_trees_all_equal(end_of(run)[0], end_of(unbroken)[0])
    store = ts.KvStore.open("gs://my-bucket/runs/a/").result()
    ts.KvStore.open("gs://my-bucket/runs/b/").result().write("x", "another's").result()
    names = [name.decode() for name in store.list().result()]
    assert {name.split("/")[1] for name in names if "checkpoints/" in name} == {
        str(step) for step in steps_of(run)
    }
    assert store.read("metrics.jsonl").result().value.count(b"\n") == 4


def test_over_the_wire_a_lease_is_refused_taken_over_and_lost(
    server, tmp_path, monkeypatch
):
    heard = []
    monkeypatch.setattr(os, "kill", lambda _, number: heard.append(number))
    address = "gs://my-bucket/runs/c/"
    first = Mirror(address, machine(tmp_path, 1), **SOON).__enter__()
    with (
        pytest.raises(lock.InUseError),
        Mirror(address, machine(tmp_path, 2), **SOON),
    ):
        pass
    killed(first)
    with Mirror(address, machine(tmp_path, 2), **SOON):
        first._lease.renew()
        assert first._lease.lost.startswith(f"process {os.getpid()} on ")
    assert not heard


def test_a_bucket_that_is_not_there_is_said_at_the_door(server, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bucket, "RETRIES", 1)
    with (
        pytest.raises(BucketError, match=r"gs://no-bucket/a/ cannot be read and writ"),
        bucket.workdir("gs://no-bucket/a"),
    ):
        pass


@pytest.mark.slow
def test_the_command_trains_in_a_bucket(server, tmp_path):
    def command(number: int, kimg: str) -> str:
        flags = (
            *("--config=configs/quick.py", "--config.dataset=phantom:60"),
            *(f"--config.total_kimg={kimg}", "--config.evaluate_kimg=0.0"),
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
        said: str = done.stdout + done.stderr
        return said

    assert "0.1 of 0.128 kimg: finished" in command(1, "0.128")
    assert "round 9 of 16" in command(2, "0.256")
