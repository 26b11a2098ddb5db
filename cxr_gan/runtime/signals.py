"""Ctrl-C, SIGTERM and SIGHUP as a request to stop, which the training loop polls."""

import signal
import threading
import time
from typing import Any, Self

NUMBERS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
]
REPEAT = 1.0  # seconds in which further signals count as the first one


def end_quietly() -> None:
    """Lets Ctrl-C end a process that is about to exit, without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class StopSignals:
    """Records the first Ctrl-C, SIGTERM or SIGHUP in `requested`.

    Shells and systems send several signals at once. A signal more than REPEAT seconds
    after the first acts as usual. SIGHUP is left alone where it is ignored, as by
    nohup. Python allows handlers only in the main thread; entered in another, this does
    nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._time = 0.0  # of the first signal
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                self._previous_handlers[number] = signal.signal(number, self._request)
                hangup = number not in (signal.SIGINT, signal.SIGTERM)
                if hangup and self._previous_handlers[number] == signal.SIG_IGN:
                    signal.signal(number, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore_handlers()

    def _request(self, number: int, _: object) -> None:
        if not self.requested:
            self.requested, self._time = True, time.monotonic()
        elif time.monotonic() - self._time > REPEAT:
            self._restore_handlers()
            signal.raise_signal(number)

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
