"""A run in a bucket: a folder of this machine that follows it both ways.

A run locks its folder and adds lines to its files, and a bucket allows neither. So it
is trained in a folder of the user's cache, and what changed there is copied to the
bucket every half minute and at the end; the same command on another machine begins by
copying it back. Nothing in the bucket is deleted before all that is newer is there.

One machine at a time may do so: it holds a `lease` there, renewed with every copy.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple, Self

import tensorstore as ts
from absl import logging

from cxr_gan import disk, hosts, lease, lock

SCHEME = "gs://"
RECORD = "run.json"  # what each run has, and nothing else
REPLACED = "checkpoints/"  # a run deletes nothing but what is in there
EVERY = 30.0  # seconds from one copy to the next, each of which renews the lease
SILENCE = 90.0  # seconds without a sign of life until a lease may be taken over
RETRIES = 6  # of one request, for some ten seconds in all
NOT_COPIED = (lock.NAME, disk.UNFINISHED, "orbax-checkpoint-tmp")  # parts of names


class BucketError(OSError):
    """A bucket cannot be read or written, or is not ours any more; what to do."""


class NoRunError(ValueError):
    """Something else than a run is in the folder of a bucket."""


class Stamp(NamedTuple):
    """Of a file: another stamp, another content."""

    size: int  # bytes
    changed: int  # nanoseconds


@contextlib.contextmanager
def workdir(given: str) -> Iterator[pathlib.Path]:
    """The folder a --workdir names; a bucket's is followed by the first process.

    Raises:
        ValueError: it names no folder, or another machine trains in it.
        BucketError: the bucket cannot be read or written.
        hosts.PeerError: so the first process says.
    """
    if not given.startswith(SCHEME):
        yield disk.local(given, "--workdir")
        return
    folder = folder_of(given)
    with contextlib.ExitStack() as stack:
        with hosts.together():
            if hosts.first():
                stack.enter_context(Mirror(f"{given.rstrip('/')}/", folder))
        yield folder


def folder_of(address: str) -> pathlib.Path:
    """Where on this machine the run of an address is trained.

    Raises:
        ValueError: it names no folder in a bucket.
    """
    bucket, *path = address.removeprefix(SCHEME).rstrip("/").split("/")
    if not bucket or not path or {"", ".", ".."} & {*path}:
        raise ValueError(
            f"--workdir={address} names no folder in a bucket; give one, as "
            f"--workdir={SCHEME}{bucket or 'my-bucket'}/runs/a"
        )
    return disk.user_cache() / "buckets" / pathlib.Path(bucket, *path)


class Mirror:
    """A folder and its copy under an address, a KvStore's URL that ends with a slash.

    While it is entered, the lease is ours and a thread copies.
    """

    def __init__(
        self,
        address: str,
        folder: pathlib.Path,
        every: float = EVERY,
        silence: float = SILENCE,
    ):
        self.address, self.folder = address, folder
        self._every, self._silence = every, silence
        self._beside = folder.with_name(f"{folder.name}.bucket")  # what we note of it
        self._copied: dict[str, Stamp] = {}  # what the bucket holds as it is here
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack, self._reaching():
            with disk.writing(self._beside):
                self._beside.mkdir(parents=True, exist_ok=True)
            # Against others on this machine; the lease, against other machines.
            stack.enter_context(lock.held(self._beside))
            retries = ts.Context({"gcs_request_retries": {"max_retries": RETRIES}})
            self._store = ts.KvStore.open(self.address, context=retries).result()
            self._require_run()
            self._lease = lease.Lease(self._store, self.address, self._silence)
            note = self._beside / "owner"
            known = note.read_text(encoding="utf-8") if note.exists() else ""
            if not self._lease.take(known):
                self._fetch()
            with disk.whole(note) as unfinished:
                unfinished.write_text(self._lease.token, encoding="utf-8")
            self._held = stack.pop_all()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end.set()
        self._thread.join()
        with self._held:
            try:
                self._finish()
            except BucketError as error:
                if kind is None:
                    raise
                logging.warning("%s", error)  # what ended the block is told by itself

    def _finish(self) -> None:
        try:
            with self._reaching():
                self._copy()
                if not self._lease.lost:
                    self._lease.renew(ended=True)
        except OSError as error:
            raise BucketError(
                f"{error}. The end of the run is in {self.folder} alone; the same "
                "command on this machine copies it"
            ) from error
        if self._lease.lost:
            raise BucketError(
                f"{self.address} was taken over by {self._lease.lost}; what was "
                f"trained here since is in {self.folder} alone"
            )

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Whatever the store answers, told in one sentence."""
        try:
            yield
        except (lock.InUseError, NoRunError, OSError):
            raise
        except ValueError as error:  # what TensorStore raises, whatever it is
            why = str(error).split(" [", maxsplit=1)[0].splitlines()[0][:300]
            raise BucketError(
                f"{self.address} cannot be read and written ({why}); see to the name, "
                "the network, and that you may: gcloud auth application-default login"
            ) from error

    def _require_run(self) -> None:
        """Nothing is written, not even a lease, where somebody keeps other things."""
        names = self._names()
        if names and RECORD not in names:
            raise NoRunError(
                f"{self.address} is not empty, and no run of ours: it has no {RECORD}; "
                "give another --workdir"
            )

    def _fetch(self) -> None:
        """The run as the bucket has it, whole or not at all; what was here steps aside.

        Where the bucket holds none, what is here stays, and will be copied.
        """
        names = self._names()
        if not names:
            return
        part = self._beside / "part"
        with disk.writing(part):
            shutil.rmtree(part, ignore_errors=True)
            for name in names:
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._store.read(name).result().value)
                self._stay()
            if self.folder.exists():
                now = time.strftime("%Y%m%dT%H%M%S")
                aside = self.folder.with_name(f"{self.folder.name}.until-{now}")
                self.folder.rename(aside)
                logging.warning("%s was older; it is %s now", self.folder, aside)
            part.rename(self.folder)
        self._copied = self._here()

    def _keep(self) -> None:
        """Copies, again and again; what fails is told, and tried again."""
        while not self._end.wait(self._every) and not self._lease.lost:
            try:
                with self._reaching():
                    self._lease.renew()
                    self._copy()
            except OSError as error:
                logging.warning("%s; again in %g s", error, self._every)
        if self._lease.lost:  # as if a person had asked: it saves, and ends
            logging.warning("%s was taken over by %s", self.address, self._lease.lost)
            os.kill(os.getpid(), signal.SIGTERM)

    def _stay(self) -> None:
        """A sign of life, where the last one is some time ago."""
        if self._lease.age() > self._every:
            self._lease.renew()

    def _copy(self) -> None:
        """What changed since the last time; then checkpoints gone here go there.

        What shows that it is a run comes first, so a copy may break off anywhere.
        """
        here = self._here()
        for name, stamp in sorted(here.items(), key=lambda item: item[0] != RECORD):
            self._stay()
            if self._lease.lost:
                return
            if self._copied.get(name) != stamp:
                with contextlib.suppress(FileNotFoundError):
                    content = (self.folder / name).read_bytes()
                    self._store.write(name, content).result()
                    self._copied[name] = stamp
        for name in [] if self._lease.lost else self._names():
            if name.startswith(REPLACED) and name not in here:
                self._store.write(name, None).result()
                self._copied.pop(name, None)

    def _here(self) -> dict[str, Stamp]:
        """The files that belong in the bucket, by their names there."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if any(part in name for part in NOT_COPIED):
                continue
            with contextlib.suppress(FileNotFoundError):  # a checkpoint made room
                if path.is_file():
                    stat = path.stat()
                    found[name] = Stamp(stat.st_size, stat.st_mtime_ns)
        return found

    def _names(self) -> list[str]:
        """Of all that is in the bucket but the lease."""
        names = (name.decode() for name in self._store.list().result())
        return [name for name in names if name != lease.NAME]
