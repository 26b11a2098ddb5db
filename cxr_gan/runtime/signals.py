"""Ctrl-C and SIGTERM as a request to stop, which the training loop polls."""

import signal
import threading
from typing import Any, Self


class StopSignals:
    """Records the first Ctrl-C or SIGTERM in `requested`; a second acts as usual.

    Python allows this only in the main thread; entered in another, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore_handlers()

    def _request(self, *_: object) -> None:
        self.requested = True
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
