"""One process among several: whether they work together, and which of them speaks for all."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

_FILE = "TORCHELASTIC_ERROR_FILE"  # where torchrun looks for a process's own words
LAUNCHER = "RAZORLITE_LAUNCHER"  # the process that has started the others, if one of ours has
_apart = False


@contextmanager
def apart() -> Iterator[None]:
    """Let this process work within the block as if it were the only one.

    Collectives do nothing, it counts as rank 0 and writes files: those of its own work.
    """
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def is_apart() -> bool:
    """Return whether `apart` holds."""
    return _apart


def together() -> int:
    """Return how many processes share this one's work: those of torchrun, 1 within `apart`."""
    return 1 if _apart else _started()


def several() -> bool:
    """Return whether this process is one of several."""
    return _started() > 1


def _started() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def end_with_launcher() -> None:
    """Ask this process to stop as soon as the one that has started it is gone, as when killed."""
    launcher = os.environ.get(LAUNCHER)

    def watch() -> None:
        while str(os.getppid()) == launcher:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if launcher is not None:
        threading.Thread(target=watch, daemon=True).start()


def is_first() -> bool:
    """Return whether this process is the only one, or the first of all."""
    return os.environ.get("RANK", "0") == "0"


def speaks_first(message: str) -> bool:
    """Return whether this process is the first on its machine to end with a message.

    The same fault stops all processes, each for itself; of one alone, that one reports it.
    """
    if not several():
        return True
    if _FILE not in os.environ:
        return is_first()
    mark = f"reported-{sha256(message.encode()).hexdigest()[:16]}"
    try:
        with open(Path(os.environ[_FILE]).parents[1] / mark, "x"):
            return True
    except FileExistsError:
        return False
    except OSError:
        return True
