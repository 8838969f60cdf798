"""One process at a time: locks on files, which the system lifts when their holder dies."""

import errno
import os
from pathlib import Path
from typing import IO, Literal

Outcome = Literal["held", "busy", "unknown"]
_HERE: set[Path] = set()  # a process does not lock itself out of a file: it must remember
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class Lock:
    """An exclusive lock on an empty file, which stays.

    The holder must not open the file for anything else: closing it again would lift the lock.

    Args:
        path: the file; it is created if need be, its folder must be there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None

    def acquire(self) -> Outcome:
        """Take the lock without waiting.

        Returns:
            "held": it is ours; "busy": another has it, in this process or elsewhere; "unknown":
            the file system has no locks, so that nobody can tell.

        Raises:
            OSError: the file cannot be opened for writing.
        """
        key = self.path.resolve()
        if key in _HERE:
            return "busy"
        file = open(self.path, "ab")  # noqa: SIM115 open as long as it is held
        try:
            _lock(file.fileno())
        except OSError as error:
            file.close()
            return "busy" if error.errno in _BUSY else "unknown"
        self._file = file
        _HERE.add(key)
        return "held"

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._file is not None:
            self._file.close()
            self._file = None
            _HERE.discard(self.path.resolve())


if os.name == "nt":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _lock(handle: int) -> None:
        # A record lock belongs to the process: forked workers that outlive it have no share in it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
