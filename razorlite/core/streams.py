"""Standard output and error that never end a run: what cannot be printed is dropped."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_log = logging.getLogger("razorlite")
results = logging.getLogger("razorlite.results")  # what a command was called for
_WIDE = 10_000  # columns
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


class _Handler(logging.StreamHandler[Any]):
    """Prints records on what a stream of `sys` is when they come, as beside a live bar."""

    def __init__(self, name: str) -> None:
        logging.Handler.__init__(self)
        self._name = name

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return getattr(sys, self._name)


class _FirstOfData(logging.Filter):
    """Drops what a data set's reader has said before: a command may read one several times."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if not record.name.startswith("razorlite.data"):
            return True
        new = text not in self._seen
        self._seen.add(text)
        return new


@contextmanager
def logged_to_streams(level: int) -> Iterator[None]:
    """Print log records of a level and above within the block.

    Those of `results` go to standard output, all else to standard error. A program that has set up
    its logging keeps it, and has the results in both.
    """
    root, before = logging.getLogger(), results.level
    out = _Handler("stdout")
    results.addHandler(out)
    results.setLevel(level)
    try:
        with nullcontext() if root.handlers else _logged_to_stderr(root, level):
            yield
    finally:
        results.removeHandler(out)
        results.setLevel(before)


@contextmanager
def _logged_to_stderr(root: logging.Logger, level: int) -> Iterator[None]:
    before, handler = root.level, _Handler("stderr")
    handler.addFilter(lambda record: record.name != results.name)
    handler.addFilter(_FirstOfData())
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@contextmanager
def printed_to_stderr(when: bool = True) -> Iterator[None]:
    """Send what is printed within the block to standard error: it is not what was asked for."""
    with redirect_stdout(sys.stderr) if when else nullcontext():
        yield


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


def safe_console(name: str = "stdout", **options: Any) -> "Console":
    """Return a console whose printing cannot fail.

    Results in a file or a pipe, where no width is known, are neither broken nor cut.

    Args:
        name: of the stream of `sys` that it prints on.
        options: of rich's console.
    """
    from rich.console import Console

    out: Any = getattr(sys, name)
    safe = out if isinstance(out, SafeStream) else SafeStream(out)
    if name == "stdout" and not safe.isatty():
        options.setdefault("width", _WIDE)
    return Console(file=safe, **options)  # type: ignore[arg-type]
