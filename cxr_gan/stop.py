"""Ctrl-C and SIGTERM as a wish to end, for who asks after it."""

import signal
import threading
from typing import Any, Self


class StopSignals:
    """Turns the first Ctrl-C or SIGTERM into a wish; the second acts as ever."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        self.asked = True
        for which, handler in self._before.items():
            signal.signal(which, handler)
