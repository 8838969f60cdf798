"""Signals as a request to stop: after the current step, or at once."""

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from razorlite.core.errors import RazorliteError
from razorlite.core.ranks import several

_MOMENT = 0.05  # seconds


class Interrupted(RazorliteError):
    """A run was asked to stop; it has saved its state, and the message says how to go on."""

    exit_code = 130


class StoppedAtEnd(Interrupted):
    """A run was asked to stop when its last step was done, and has done what comes with that.

    Whoever has more to do stops; a command for which this was all has succeeded.

    Attributes:
        metrics: of the last evaluation.
    """

    def __init__(self, message: str, metrics: Mapping[str, float] | None = None) -> None:
        super().__init__(message)
        self.metrics = dict(metrics or {})


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
    with _AtOnce():
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(message()) from None


class _AtOnce:
    """Raises a KeyboardInterrupt at the first signal.

    Python drops what is raised within a finaliser or the callback of a weak reference: there it is
    raised again, a moment later.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._hook = sys.unraisablehook
        self._again: threading.Timer | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _stopping():
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._stop)
        if self._before:
            sys.unraisablehook = self._dropped

    def __exit__(self, *_: object) -> None:
        if self._before:
            sys.unraisablehook = self._hook
        if self._again is not None:
            self._again.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        for other in self._before:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    def _dropped(self, what: Any) -> None:
        if what.exc_type is not KeyboardInterrupt:
            self._hook(what)
            return
        first = next(iter(self._before))
        signal.signal(first, self._stop)
        self._again = threading.Timer(_MOMENT, _thread.interrupt_main, [first])
        self._again.start()


def _stopping() -> list[signal.Signals]:
    """Return the signals that ask a run to end, as far as this system has them."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
