"""A lease on a folder of a bucket: one machine at a time may write to it.

The lease is an object in that folder. Its holder rewrites it at regular intervals (the
heartbeat), on the condition that nobody else has changed it. If it does not change for
the timeout, the holder is considered gone and another machine may take the lease over.
Clocks of different machines are never compared.
"""

import json
import time
import uuid
from typing import Any

import tensorstore as ts
from absl import logging

from cxr_gan.storage import lock

LEASE_NAME = "run.lease"


class Lease:
    """The lease of an address: `acquire` it, then `renew` it until it is taken over."""

    def __init__(self, store: ts.KvStore, address: str, timeout: float):
        """Only stores the arguments.

        Args:
            store: the folder in the bucket.
            address: URL of the folder, for messages.
            timeout: seconds without a heartbeat after which it may be taken over.
        """
        self._store, self._address, self._timeout = store, address, timeout
        self._holder = lock.process_description()
        self._generation = b""  # of the object, as this process last wrote it
        self._heartbeats, self._renewed_at = 0, 0.0
        self.token = ""  # of one machine's copy of the run; new after a takeover
        self.taken_over_by = ""  # the new holder; empty while the lease is ours

    def acquire(self, token: str) -> bool:
        """Takes the lease; returns whether it already carried this token.

        If it did, no other machine has written since this one last held the lease.

        Raises:
            lock.InUseError: another machine holds it.
        """
        found = self._read_available(token)
        previous_token = json.loads(found.value)["token"] if found.value else ""
        already_ours = bool(previous_token) and previous_token == token
        self.token = token if already_ours else uuid.uuid4().hex
        self._generation = found.stamp.generation
        self.renew()
        if self.taken_over_by:
            raise lock.InUseError(self._address, self.taken_over_by)
        return already_ours

    def _read_available(self, token: str) -> ts.KvStore.ReadResult:
        """The lease as stored, once it may be taken; waits for the timeout if needed.

        Raises:
            lock.InUseError: its holder sent a heartbeat during the wait.
        """
        lease = self._store.read(LEASE_NAME).result()
        if lease.state == "missing":
            return lease
        content = json.loads(lease.value)
        if content["ended"] or content["token"] == token:
            return lease
        logging.warning(
            "%s: held by %s, which did not shut down cleanly. Waiting %g s for its "
            "heartbeat before taking over.",
            self._address,
            content["holder"],
            self._timeout,
        )
        time.sleep(self._timeout)
        latest = self._store.read(LEASE_NAME).result()
        if latest.state == "value" and latest.value != lease.value:
            raise lock.InUseError(self._address, content["holder"])
        return latest

    def age(self) -> float:
        """Seconds since the last renewal."""
        return time.monotonic() - self._renewed_at

    def renew(self, ended: bool = False) -> None:
        """Writes a heartbeat; after a takeover, only sets `taken_over_by`.

        Args:
            ended: marks the lease as released, so the next holder need not wait.
        """
        self._heartbeats += 1
        self._renewed_at = time.monotonic()
        content = {
            "holder": self._holder,
            "token": self.token,
            "beats": self._heartbeats,
            "ended": ended,
        }
        write = self._store.write(
            LEASE_NAME, json.dumps(content), if_equal=self._generation
        )
        written = write.result()
        found = self._store.read(LEASE_NAME).result()
        stored: dict[str, Any] = json.loads(found.value) if found.value else content
        if stored["token"] != self.token:
            self.taken_over_by = stored["holder"]
            return
        self._generation = written.generation or found.stamp.generation
