"""Finding files and folders."""

import difflib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from razorlite.core.errors import DataError
from razorlite.core.files import DATA_VARIABLE, resolve

_NO_DATA = ("thumbs.db", "desktop.ini", "__macosx")  # what file browsers and archivers leave


def shortest(path: str | Path) -> str:
    """Return a path as `resolve` leads back to it: relative if it is in one of its folders."""
    path = resolve(path)
    for start in filter(None, [os.environ.get(DATA_VARIABLE), os.getcwd()]):
        if path.is_relative_to(start) and resolve(path.relative_to(start)) == path:
            return path.relative_to(start).as_posix()
    return str(path)


def true_paths(paths: Iterable[Path]) -> list[str]:
    """Return absolute paths with links followed, so that one file has one path."""
    folders: dict[Path, str] = {}
    found = []
    for path in paths:
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        true = os.path.join(folders[path.parent], path.name)
        found.append(os.path.realpath(true) if os.path.islink(true) else true)
    return found


def relative(path: str | Path, folder: str | Path) -> str:
    """Return a path as it is called from a folder, its parts separated by "/"."""
    text, start = str(path), f"{folder}{os.sep}"
    inside = text.startswith(start) and ".." not in text  # the usual case, and much faster
    return Path(text[len(start) :] if inside else os.path.relpath(path, folder)).as_posix()


def need_file(path: Path, what: str) -> Path:
    """Return `path` if it is a file.

    Raises:
        DataError: it is not; names near files of the same folder.
    """
    if os.path.isfile(path):  # false, too, for what no file can be called
        return path
    raise DataError(f"no {what} {path}{_where(path)}")


def need_folder(path: Path, what: str) -> Path:
    """Return `path` if it is a folder.

    Raises:
        DataError: it is not; names near folders.
    """
    if os.path.isdir(path):
        return path
    raise DataError(f"no {what} {path}{_where(path)}")


def near(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x' or 'y'?" for the nearest of `known`, else the first few."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    shown = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    return f"; there is {shown}" if known else ""


def _where(path: Path) -> str:
    parent = path.parent
    while not os.path.isdir(parent) and parent != parent.parent:
        path, parent = parent, parent.parent
    hint = near(path.name, os.listdir(parent) if os.access(parent, os.R_OK) else [])
    base = os.environ.get(DATA_VARIABLE, "not set")
    return (
        f": {path.name!r} is not in {parent}{hint or ', which is empty'}; "
        f"relative paths start at ${DATA_VARIABLE} ({base}) or {Path.cwd()}"
    )


def regular_size(path: str | Path) -> int:
    """Return how many bytes a regular file has.

    Raises:
        OSError: it is missing, or a folder, a pipe, a socket or a device, which may never end.
    """
    try:
        status = os.stat(path)
    except ValueError as error:  # a NUL, or what the file system cannot encode
        raise OSError(f"no file can have this name: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe, socket or device"
        raise OSError(f"it is a {kind}, not a file")
    return status.st_size


def is_hidden(name: str) -> bool:
    """Return whether a file or folder holds no data: names with a dot in front, Thumbs.db."""
    return name.startswith(".") or name.lower() in _NO_DATA


def files_under(folder: Path) -> list[Path]:
    """Return the files in a folder and those below it, sorted, hidden ones left out.

    Links to folders are followed, each folder being read once, so that circles end.

    Raises:
        DataError: a folder cannot be read.
    """
    files: list[Path] = []
    waiting, seen = [folder], set()
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        entries = [entry for entry in _entries(place) if not is_hidden(entry.name)]
        waiting += [place / entry.name for entry in entries if entry.is_dir()]
        files += [place / entry.name for entry in entries if not entry.is_dir()]
    return sorted(files)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"cannot read folder {folder}: {error.strerror}") from error


def holds_any(folder: Path, suffixes: Sequence[str]) -> bool:
    """Return whether a folder itself holds a file with one of the suffixes, in small letters."""
    return any(Path(entry.name).suffix.lower() in suffixes for entry in _entries(folder))


def read_bytes(path: Path, most: int) -> bytes:
    """Return what a file holds.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than `most` bytes.
    """
    size = regular_size(path)
    if size > most:
        raise OSError(f"it has {size} bytes; at most {most} are read")
    return path.read_bytes()
