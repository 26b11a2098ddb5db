"""Mirrors a run between a local folder and a bucket.

A run locks its folder and appends to its files; a bucket supports neither. Training
therefore uses a folder in the user's cache. Changed files are copied to the bucket
every 30 s and at the end, and the same command on another machine first copies them
back. Nothing in the bucket is deleted before everything newer has been copied.

One machine at a time may mirror a folder: it holds a lease there (see `gcs_lease`),
which is renewed with every copy.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from typing import Self

import tensorstore as ts
from absl import logging

from cxr_gan.storage import files, gcs_lease, lock

RECORD = "run.json"  # present in every run and in no other folder
DELETABLE = "checkpoints/"  # a run deletes files only below this prefix
SYNC_INTERVAL = 30.0  # seconds between copies; each copy renews the lease
LEASE_TIMEOUT = 90.0  # seconds without a heartbeat until a takeover is allowed
RETRIES = 6  # of one request, about ten seconds in total
NOT_COPIED = (  # parts of names of files that stay local
    lock.LOCK_NAME,
    files.PARTIAL_SUFFIX,
    "orbax-checkpoint-tmp",
)


class BucketError(OSError):
    """A bucket folder cannot be used, or was taken over; says what to do."""


class Mirror:
    """A local folder and its copy in a bucket.

    Entering the context acquires the lease, copies the run from the bucket if another
    machine wrote it last, and starts a thread that copies changes to the bucket.
    Leaving it copies the rest and releases the lease.
    """

    def __init__(
        self,
        address: str,
        folder: pathlib.Path,
        sync_interval: float = SYNC_INTERVAL,
        lease_timeout: float = LEASE_TIMEOUT,
    ):
        """Only stores the arguments; entering the context does the work.

        Args:
            address: URL of a TensorStore KvStore, ending with a slash.
            folder: local folder of the run; need not exist.
            sync_interval: seconds between copies.
            lease_timeout: seconds without a heartbeat until a takeover is allowed.
        """
        self.address, self.folder = address, folder
        self._sync_interval, self._lease_timeout = sync_interval, lease_timeout
        # The mirror's own files, outside the mirrored folder.
        self._own_folder = folder.with_name(f"{folder.name}.bucket")
        # Local files that the bucket has unchanged; values as of `_list_local`.
        self._copied: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._copy_periodically, daemon=True)
        self._local_lock = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Acquires the lease, fetches the run if needed, and starts to copy.

        Raises:
            lock.InUseError: another process or another machine uses the folder.
            BucketError: the bucket cannot be read or written, or its folder holds
                something other than a run.
            files.DiskError: the local folder cannot be written.
        """
        with contextlib.ExitStack() as stack, self._translate_errors():
            with files.translate_os_errors(self._own_folder):
                self._own_folder.mkdir(parents=True, exist_ok=True)
            # Excludes processes of this machine; the lease excludes other machines.
            stack.enter_context(lock.acquire(self._own_folder))
            retries = ts.Context({"gcs_request_retries": {"max_retries": RETRIES}})
            self._store = ts.KvStore.open(self.address, context=retries).result()
            self._require_run()
            self._lease = gcs_lease.Lease(
                self._store, self.address, self._lease_timeout
            )
            token_file = self._own_folder / "owner"
            token = token_file.read_text("utf-8") if token_file.exists() else ""
            if not self._lease.acquire(token):
                self._fetch()
            with files.atomic_write(token_file) as unfinished:
                unfinished.write_text(self._lease.token, encoding="utf-8")
            self._local_lock = stack.pop_all()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Copies the last changes and releases the lease.

        Raises:
            BucketError: they could not be copied; only a warning if the block failed.
        """
        self._stop.set()
        self._thread.join()
        with self._local_lock:
            try:
                self._finish()
            except BucketError as error:
                if kind is None:
                    raise
                logging.warning("%s", error)  # must not hide the error of the block

    def _finish(self) -> None:
        try:
            with self._translate_errors():
                self._copy()
                if not self._lease.taken_over_by:
                    self._lease.renew(ended=True)
        except OSError as error:
            raise BucketError(
                f"{error}. The end of the run exists only in {self.folder}; the same "
                "command on this machine copies it to the bucket"
            ) from error
        if self._lease.taken_over_by:
            raise BucketError(
                f"{self.address} was taken over by {self._lease.taken_over_by}; what "
                f"was trained here since then exists only in {self.folder}"
            )

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raises TensorStore's errors as a BucketError of one sentence."""
        try:
            yield
        except (lock.InUseError, OSError):
            raise
        except ValueError as error:  # TensorStore raises ValueError for every failure
            reason = str(error).split(" [", maxsplit=1)[0].splitlines()[0][:300]
            raise BucketError(
                f"{self.address} cannot be read and written ({reason}); check the "
                "name, the network and your access, which you get with: gcloud auth "
                "application-default login"
            ) from error

    def _require_run(self) -> None:
        """Raises BucketError for a folder of other files, before anything is written.

        Not even a lease is written there.
        """
        names = self._list_bucket()
        if names and RECORD not in names:
            raise BucketError(
                f"{self.address} is not empty and is not a cxr_gan run: it has no "
                f"{RECORD}; give another --workdir"
            )

    def _fetch(self) -> None:
        """Copies the run from the bucket, completely or not at all.

        An existing local folder is renamed, not deleted. If the bucket holds no run,
        the local folder stays and will be copied to the bucket.
        """
        names = self._list_bucket()
        if not names:
            return
        part = self._own_folder / "part"
        with files.translate_os_errors(part):
            shutil.rmtree(part, ignore_errors=True)
            for name in names:
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._store.read(name).result().value)
                self._renew_if_due()
            if self.folder.exists():
                now = time.strftime("%Y%m%dT%H%M%S")
                old = self.folder.with_name(f"{self.folder.name}.until-{now}")
                self.folder.rename(old)
                logging.warning(
                    "%s was older than its copy in the bucket; moved it to %s",
                    self.folder,
                    old,
                )
            part.rename(self.folder)
        self._copied = self._list_local()

    def _copy_periodically(self) -> None:
        """Copies every `sync_interval`; logs failures and tries again."""
        while not self._stop.wait(self._sync_interval):
            if self._lease.taken_over_by:
                break
            try:
                with self._translate_errors():
                    self._lease.renew()
                    self._copy()
            except OSError as error:
                logging.warning("%s; next try in %g s", error, self._sync_interval)
        if self._lease.taken_over_by:
            logging.warning(
                "%s was taken over by %s", self.address, self._lease.taken_over_by
            )
            # Training saves and ends, as it does when a user stops it.
            os.kill(os.getpid(), signal.SIGTERM)

    def _renew_if_due(self) -> None:
        """Renews the lease if the last heartbeat is older than `sync_interval`."""
        if self._lease.age() > self._sync_interval:
            self._lease.renew()

    def _copy(self) -> None:
        """Copies files changed since the last copy, then deletes removed checkpoints.

        `RECORD`, which identifies a run, is copied first, so a copy that is interrupted
        anywhere leaves a valid run.
        """
        local = self._list_local()
        for name, stat in sorted(local.items(), key=lambda item: item[0] != RECORD):
            self._renew_if_due()
            if self._lease.taken_over_by:
                return
            if self._copied.get(name) != stat:
                with contextlib.suppress(FileNotFoundError):
                    content = (self.folder / name).read_bytes()
                    self._store.write(name, content).result()
                    self._copied[name] = stat
        for name in [] if self._lease.taken_over_by else self._list_bucket():
            if name.startswith(DELETABLE) and name not in local:
                self._store.write(name, None).result()
                self._copied.pop(name, None)

    def _list_local(self) -> dict[str, tuple[int, int]]:
        """Local files to be copied: {name in the bucket: (bytes, mtime in ns)}.

        A change of size or of modification time means new content.
        """
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if any(part in name for part in NOT_COPIED):
                continue
            with contextlib.suppress(FileNotFoundError):  # a checkpoint was replaced
                if path.is_file():
                    stat = path.stat()
                    found[name] = stat.st_size, stat.st_mtime_ns
        return found

    def _list_bucket(self) -> list[str]:
        """Names of all objects in the bucket's folder except the lease."""
        names = (name.decode() for name in self._store.list().result())
        return [name for name in names if name != gcs_lease.LEASE_NAME]
