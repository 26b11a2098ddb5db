"""A run in a bucket: a folder of this machine that follows it both ways.

A run locks its folder and adds lines to its files, and a bucket allows neither. So it
is trained in a folder of the user's cache, and what changed there is copied to the
bucket every half minute and at the end; the same command on another machine begins by
copying it back. Nothing in the bucket is deleted before all that is newer is there.

One machine at a time may do so: each holds a lease in the bucket and renews it with
every copy. A lease that is not renewed was left behind by a machine that is gone.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import tensorstore as ts
from absl import logging

from cxr_gan import disk, hosts, lock

SCHEME = "gs://"
LEASE = "run.lease"  # in the bucket: who trains there
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
        self._note = folder.with_name(f"{folder.name}.owner")
        self._copied: dict[str, Stamp] = {}  # what the bucket holds as it is here
        self._token, self._beats, self._renewed = "", 0, 0.0
        self._holder = lock.signature()
        self._lease = b""  # generation of the lease in the bucket
        self._lost = ""  # who took the lease
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        with self._reaching():
            retries = ts.Context({"gcs_request_retries": {"max_retries": RETRIES}})
            self._store = ts.KvStore.open(self.address, context=retries).result()
            lease = self._free_lease()
            self._begin(lease)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end.set()
        self._thread.join()
        try:
            self._finish()
        except BucketError as error:
            if kind is None:
                raise
            logging.warning("%s", error)  # what ended the block is told by itself

    def _finish(self) -> None:
        if self._lost:
            raise BucketError(
                f"{self.address} was taken over by {self._lost}; what was trained here "
                f"since is in {self.folder} alone"
            )
        try:
            with self._reaching():
                self._copy()
                self._renew(ended=True)
        except OSError as error:
            raise BucketError(
                f"{error}. The end of the run is in {self.folder} alone; the same "
                "command on this machine copies it"
            ) from error

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

    def _free_lease(self) -> ts.KvStore.ReadResult:
        """The lease that may be taken, once its holder has been silent for long."""
        lease = self._store.read(LEASE).result()
        if lease.state == "missing":
            return lease
        told = json.loads(lease.value)
        if told["ended"] or told["token"] == self._noted():
            return lease
        logging.warning(
            "%s was trained by %s, which did not say goodbye; waiting %g s for a sign "
            "of it",
            self.address,
            told["holder"],
            self._silence,
        )
        time.sleep(self._silence)
        again = self._store.read(LEASE).result()
        if again.state == "value" and again.value != lease.value:
            raise lock.InUseError(
                f"{self.address} is in use by {told['holder']}; wait until it ends, "
                "end it, or give another --workdir"
            )
        return again

    def _begin(self, lease: ts.KvStore.ReadResult) -> None:
        """Takes the lease; brings the run here, unless what is here is as new."""
        theirs = json.loads(lease.value)["token"] if lease.value else ""
        ours = theirs and theirs == self._noted()
        with disk.writing(self.folder):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._token = theirs if ours else uuid.uuid4().hex
        self._lease = lease.stamp.generation
        self._renew(ended=False)
        if self._lost:
            raise lock.InUseError(f"{self.address} was just taken by {self._lost}")
        if not ours:
            self._fetch()
        with disk.whole(self._note) as note:
            note.write_text(self._token, encoding="utf-8")

    def _noted(self) -> str:
        """The token of the lease under which the folder here was written last."""
        return self._note.read_text(encoding="utf-8") if self._note.exists() else ""

    def _fetch(self) -> None:
        """The run as the bucket has it, whole or not at all; what was here steps aside.

        Where the bucket holds none, what is here stays, and will be copied.
        """
        names = self._names()
        if not names:
            return
        if RECORD not in names:
            raise NoRunError(
                f"{self.address} is not empty, and no run of ours: it has no {RECORD}; "
                "give another --workdir"
            )
        part = self.folder.with_name(f"{self.folder.name}{disk.UNFINISHED}")
        with disk.writing(part):
            shutil.rmtree(part, ignore_errors=True)
            for name in names:
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._store.read(name).result().value)
            if self.folder.exists():
                aside = self.folder.with_name(
                    f"{self.folder.name}.until-{time.strftime('%Y%m%dT%H%M%S')}"
                )
                self.folder.rename(aside)
                logging.warning("%s was older; it is %s now", self.folder, aside)
            part.rename(self.folder)
        self._copied = self._here()

    def _keep(self) -> None:
        """Copies, again and again; what fails is told, and tried again."""
        while not self._end.wait(self._every) and not self._lost:
            try:
                with self._reaching():
                    self._renew(ended=False)
                    if not self._lost:
                        self._copy()
            except OSError as error:
                logging.warning("%s; again in %g s", error, self._every)
        if self._lost:  # as if a person had asked: it saves, and ends
            logging.warning("%s was taken over by %s", self.address, self._lost)
            os.kill(os.getpid(), signal.SIGTERM)

    def _renew(self, ended: bool) -> None:
        """Writes the lease where it is still ours; else notes who has it."""
        self._beats, self._renewed = self._beats + 1, time.monotonic()
        told = {
            "holder": self._holder,
            "token": self._token,
            "beats": self._beats,
            "ended": ended,
        }
        written = self._store.write(
            LEASE, json.dumps(told), if_equal=self._lease
        ).result()
        found = self._store.read(LEASE).result()
        holder: dict[str, Any] = json.loads(found.value) if found.value else told
        if holder["token"] != self._token:
            self._lost = holder["holder"]
            return
        self._lease = written.generation or found.stamp.generation

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

    def _copy(self) -> None:
        """What changed since the last time; then checkpoints gone here go there."""
        here = self._here()
        for name, stamp in here.items():
            if self._copied.get(name) == stamp:
                continue
            if time.monotonic() - self._renewed > self._every:
                self._renew(ended=False)
            with contextlib.suppress(FileNotFoundError):
                content = (self.folder / name).read_bytes()
                self._store.write(name, content).result()
                self._copied[name] = stamp
        for name in self._names():
            if name.startswith(REPLACED) and name not in here:
                self._store.write(name, None).result()
                self._copied.pop(name, None)

    def _names(self) -> list[str]:
        """Of all that is in the bucket but the lease."""
        names = (name.decode() for name in self._store.list().result())
        return [name for name in names if name != LEASE]
