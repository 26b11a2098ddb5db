"""Who may write under an address of a bucket: one machine, as long as it says so.

The lease is an object there. Its holder writes it anew every while, on the condition
that nobody else did; one that has not changed for long was left by a machine that is
gone. No clock is compared with another's.
"""

import json
import time
import uuid
from typing import Any

import tensorstore as ts
from absl import logging

from cxr_gan import lock

NAME = "run.lease"


class Lease:
    """The lease of an address; `take` it, then `renew` it until it is `lost`."""

    def __init__(self, store: ts.KvStore, address: str, silence: float):
        """silence: seconds without a sign of life until it may be taken over."""
        self._store, self._address, self._silence = store, address, silence
        self._holder = lock.signature()
        self._generation = b""  # of the object, as we wrote it
        self._beats, self._last = 0, 0.0
        self.token = ""  # of all that one machine trains there, until another does
        self.lost = ""  # who took it over

    def take(self, token: str) -> bool:
        """Whether it was ours before: whether this token stands in it.

        Raises:
            lock.InUseError: another machine holds it.
        """
        found = self._free(token)
        theirs = json.loads(found.value)["token"] if found.value else ""
        ours = bool(theirs) and theirs == token
        self.token = token if ours else uuid.uuid4().hex
        self._generation = found.stamp.generation
        self.renew()
        if self.lost:
            raise lock.InUseError(f"{self._address} was just taken by {self.lost}")
        return ours

    def _free(self, token: str) -> ts.KvStore.ReadResult:
        """What lies there and may be taken, once who left it has been silent."""
        lease = self._store.read(NAME).result()
        if lease.state == "missing":
            return lease
        told = json.loads(lease.value)
        if told["ended"] or told["token"] == token:
            return lease
        logging.warning(
            "%s was trained by %s, which did not say goodbye; waiting %g s for a sign "
            "of it",
            self._address,
            told["holder"],
            self._silence,
        )
        time.sleep(self._silence)
        again = self._store.read(NAME).result()
        if again.state == "value" and again.value != lease.value:
            raise lock.InUseError(
                f"{self._address} is in use by {told['holder']}; wait until it ends, "
                "end it, or give another --workdir"
            )
        return again

    def age(self) -> float:
        """Seconds since it was renewed."""
        return time.monotonic() - self._last

    def renew(self, ended: bool = False) -> None:
        """Writes it where it is still ours; else notes in `lost` who has it."""
        self._beats, self._last = self._beats + 1, time.monotonic()
        told = {
            "holder": self._holder,
            "token": self.token,
            "beats": self._beats,
            "ended": ended,
        }
        write = self._store.write(NAME, json.dumps(told), if_equal=self._generation)
        written = write.result()
        found = self._store.read(NAME).result()
        theirs: dict[str, Any] = json.loads(found.value) if found.value else told
        if theirs["token"] != self.token:
            self.lost = theirs["holder"]
            return
        self._generation = written.generation or found.stamp.generation
