"""What a process says of its end when torchrun has started several: one of them speaks for all."""

import os
from hashlib import sha256
from pathlib import Path

_FILE = "TORCHELASTIC_ERROR_FILE"  # where torchrun looks for a process's own words


def several() -> bool:
    """Return whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


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
