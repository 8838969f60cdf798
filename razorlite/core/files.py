"""Finding files, and writing them so that a failure leaves the old one and says what to do."""

import csv
import errno
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from razorlite.core.errors import RunFolderError

DATA_VARIABLE = "RAZORLITE_DATA"
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than this system allows; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "permission denied; choose a folder you may write to",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EEXIST: "a file of that name is in the way; remove it or choose another folder",
    errno.EISDIR: "a folder of that name is in the way; remove it or choose another name",
    errno.ENOENT: "the folder does not exist; create it first",
}


def resolve(path: str | Path) -> Path:
    """Return an absolute path; relative ones are looked up in $RAZORLITE_DATA, then here."""
    path = Path(path).expanduser()
    base = os.environ.get(DATA_VARIABLE)
    if base and not path.is_absolute() and (Path(base) / path).exists():
        return (Path(base) / path).absolute()
    return path.absolute()


@contextmanager
def explain_write_errors(path: str | Path) -> Iterator[None]:
    """Turn the system's errors while writing `path` into a RunFolderError of one line.

    Raises:
        RunFolderError: disk full, read-only, no permission, …; names the path and the remedy.
    """
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; choose another folder")
        raise RunFolderError(f"cannot write {path}: {reason}") from error


@contextmanager
def explain_damage(path: str | Path) -> Iterator[None]:
    """Say of what goes wrong in taking up what a file holds which file it was.

    Raises:
        RunFolderError: something is missing or of another kind; names the file and the remedy.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        lacks = f"lacks {error}" if isinstance(error, KeyError) else f"makes no sense ({error})"
        raise RunFolderError(
            f"{path} {lacks}; it is damaged, or another version wrote it; restore it or start anew "
            f"in another folder"
        ) from error


def make_folder(path: str | Path) -> Path:
    """Create a folder with its parents, if need be, and return it.

    Raises:
        RunFolderError: it cannot be created.
    """
    folder = Path(path)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that takes its name only when all of it is on the disk.

    The text or bytes go to a temporary file in the same folder (created if need be). Leaving the
    block normally replaces `path` in one step; leaving it by an exception leaves `path` as it was.

    Args:
        path: the file to write.
        mode: "wb" or "w" (UTF-8).

    Raises:
        RunFolderError: the file cannot be written; names it and the remedy.
    """
    target = Path(path)
    make_folder(target.parent)
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with explain_write_errors(target):
            with open(draft, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, target)
            _sync_folder(target.parent)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of named values as CSV with a line of names; cells are empty where one lacks."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole, or not at all (see `atomic_write`)."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_bytes_atomic(path: str | Path, data: bytes | memoryview) -> None:
    """Write a binary file whole, or not at all (see `atomic_write`)."""
    with atomic_write(path) as file:
        file.write(data)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable where the system can (not on Windows or some network drives)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
