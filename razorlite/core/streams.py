"""Standard output and error that never end a run: what cannot be printed is dropped."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_log = logging.getLogger("razorlite")
_GONE = (errno.EPIPE, errno.EBADF, errno.EIO)  # the reader or the terminal: no fault of the run's


class SafeStream:
    """A text stream that drops what its file does not take.

    A reader that has gone, a full disk and a closed terminal are no reason to end hours of work;
    characters that the encoding lacks are written as their escapes.

    Args:
        stream: where text goes; None (there is no such file) drops all.

    Attributes:
        failure: the first error of a file that should have taken text, such as a full disk.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.failure: OSError | None = None
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def write(self, text: str) -> int:
        """Write text, or drop it; return its length."""
        try:
            if self.stream is not None:
                self.stream.write(text)
        except UnicodeEncodeError:
            self.write(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError) as error:
            self._note(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered, or drop it."""
        try:
            if self.stream is not None:
                self.stream.flush()
        except (OSError, ValueError) as error:
            self._note(error)

    def finish(self) -> None:
        """Flush; a file that takes no more is let go, so that Python does not fail at its end."""
        try:
            if self.stream is not None:
                self.stream.flush()
        except (OSError, ValueError) as error:
            self._note(error)
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())

    def isatty(self) -> bool:
        """Return whether a person may be reading."""
        try:
            return self.stream is not None and self.stream.isatty()
        except ValueError:  # closed
            return False

    def _note(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno not in _GONE and self.failure is None:
            self.failure = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Make `sys.stdout` and `sys.stderr` safe within the block.

    A full disk behind standard output is reported once, at the end, on standard error.
    """
    before = sys.stdout, sys.stderr
    out, err = SafeStream(sys.stdout), SafeStream(sys.stderr)
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        yield
    finally:
        out.finish()
        if out.failure is not None:
            err.write(f"warning: standard output was not written: {out.failure.strerror}\n")
        err.finish()
        sys.stdout, sys.stderr = before


@contextmanager
def logged_to_stderr(level: int) -> Iterator[None]:
    """Print log records of a level and above on standard error within the block.

    A program that has set up its logging keeps it.
    """
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    before, handler = root.level, logging.StreamHandler(sys.stderr)
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@contextmanager
def quiet(when: bool = True) -> Iterator[None]:
    """Show no progress within the block, and log warnings and errors alone."""
    before = _log.level
    if when:
        _log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _log.setLevel(before)


def is_quiet() -> bool:
    """Return whether `quiet` holds; the level of a program's own logging does not count."""
    return _log.level >= logging.WARNING


def safe_console(**options: Any) -> "Console":
    """Return a console on standard output whose printing cannot fail; rich's `options` go to it."""
    from rich.console import Console

    out: Any = sys.stdout
    return Console(file=out if isinstance(out, SafeStream) else SafeStream(out), **options)  # type: ignore[arg-type]
