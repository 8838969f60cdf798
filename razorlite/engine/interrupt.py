"""Signals as a request to stop: after the current step, or at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from razorlite.core.errors import RazorliteError
from razorlite.core.ranks import several


class Interrupted(RazorliteError):
    """A run was asked to stop; it has saved its state, and the message says how to go on."""

    exit_code = 130


class StopSignals:
    """Notes signals within a `with` block that ask a run to end.

    SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal is closed) and SIGUSR1 (batch systems send it
    before the time is up). A signal that was ignored before, as by nohup, stays so. A second Ctrl-C
    acts at once; under torchrun, which hands signals on once more, none does.

    Attributes:
        received: the first signal's name, or "".
    """

    def __init__(self) -> None:
        self.received = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in _stopping():
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        if number == signal.SIGINT and not several():
            signal.signal(number, self._before.pop(signal.SIGINT, signal.default_int_handler))


@contextmanager
def stopped_at_once(message: Callable[[], str]) -> Iterator[None]:
    """End a block as soon as a signal asks for it; for work that keeps each piece once it is done.

    The signals are those of `StopSignals`; further ones are ignored until the block has ended.

    Args:
        message: what to tell: how far it came, and how to go on.

    Raises:
        Interrupted: there was a signal, or a KeyboardInterrupt.
    """
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, _: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in _stopping():
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(message()) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopping() -> list[signal.Signals]:
    """Return the signals that ask a run to end, as far as this system has them."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
