"""How far a loop is and how long it will take, on standard error."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from razorlite.core.distributed import is_main

T = TypeVar("T")

_PATIENCE = 2.0  # seconds that nothing is said for
_PAUSE = 10.0  # seconds between two lines, where they are not written over
_log = logging.getLogger("razorlite")
_inside: ContextVar[bool] = ContextVar("_inside", default=False)


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield items; from two seconds on, say how many are done and how long the rest will take.

    A terminal has one line that is written over; a file, and a terminal that shows a bar already,
    get a line every ten seconds. Nothing is said where the level of logging is above INFO, as with
    --quiet, nor within `one_of_many`.

    Args:
        items: to go through.
        what: they are, in the plural.
        total: how many; None where it is not known.
    """
    start = last = time.monotonic()
    live = sys.stderr is not None and sys.stderr.isatty() and not _below_a_bar()
    shown = False
    try:
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            due = now - start > _PATIENCE and now - last > (0.2 if live else _PAUSE)
            if due or (not shown and now - start > _PATIENCE):
                shown, last = True, now
                _say(progress_text(done, what, total, now - start), live)
    finally:  # also of a loop that ends early
        if shown and live:
            _say("", live)


@contextmanager
def one_of_many() -> Iterator[None]:
    """Keep `progress` silent within the block: the loop around it says how far all is."""
    before = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(before)


def progress_text(done: int, what: str, total: int | None, seconds: float) -> str:
    """Return "20 of 100 images, 0:00:08 left", or the pace where the end is not known."""
    if total is None:
        return f"{done} {what}, {done / max(seconds, 1e-9):.1f} a second"
    left = round(seconds / done * max(0, total - done))
    return f"{done} of {total} {what}, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


def _below_a_bar() -> bool:
    """Return whether rich keeps the last line of the terminal."""
    return hasattr(sys.stderr, "rich_proxied_file")


def _say(text: str, live: bool) -> None:
    if is_main() and not _inside.get() and _log.isEnabledFor(logging.INFO):
        end = "\x1b[K\r" if live else "\n"
        print(text, end=end, file=sys.stderr, flush=True)
