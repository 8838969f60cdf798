"""SIGINT and SIGTERM as a request to stop after the current step."""

import signal
import threading
from types import FrameType
from typing import Any

from razorlite.core.errors import RazorliteError


class Interrupted(RazorliteError):
    """Training was asked to stop; it has saved its state, and the message says how to go on."""

    exit_code = 130


class StopSignals:
    """Notes the first SIGINT or SIGTERM within a `with` block; a second one acts at once.

    Attributes:
        received: the signal's name, or "".
    """

    def __init__(self) -> None:
        self.received = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
