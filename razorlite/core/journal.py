"""Append-only JSON lines that survive a kill at any moment."""

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from razorlite.core.errors import RunFolderError
from razorlite.core.files import explain_write_errors, make_folder

_LONGEST = 16 << 20  # bytes of a line


class Journal:
    """A file of JSON objects, one a line, written one at a time.

    A line counts once its newline is on the disk. A last line without one is what a killed process
    left: reading drops it and the next append writes over it. Metrics that are not finite are
    written as Python's json writes them (NaN, Infinity).

    Args:
        path: the file; it and its folder are created by the first append.
        sync: wait after each append until the line is on the disk.
    """

    def __init__(self, path: str | Path, *, sync: bool = True) -> None:
        self.path = Path(path)
        self._sync = sync
        self._checked = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.read())

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record after the others.

        Raises:
            RunFolderError: the file cannot be written, or the record is too long to be read again;
                earlier records are intact.
        """
        line = (json.dumps(dict(record), ensure_ascii=False) + "\n").encode()
        if len(line) >= _LONGEST:
            raise RunFolderError(
                f"{self.path}: a record of {len(line):,} bytes, and lines may have {_LONGEST:,}; "
                f"keep less in it"
            )
        make_folder(self.path.parent)
        with explain_write_errors(self.path):
            if not self._checked:
                _cut_torn_line(self.path)
            self._checked = False  # until the whole line is written
            with open(self.path, "ab") as file:
                file.write(line)
                file.flush()
                if self._sync:
                    os.fsync(file.fileno())
            self._checked = True

    def read(self) -> list[dict[str, Any]]:
        """Return all whole records, oldest first; none if there is no file.

        Raises:
            RunFolderError: a line before the last is not a JSON object; names it.
        """
        return [record for _, record in self.numbered()]

    def numbered(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the number of each whole line, from 1, and its record.

        Raises:
            RunFolderError: as `read`.
        """
        return [(n, self._parse(n, line)) for n, line in self._lines() if line.strip()]

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the number of each whole line and the line."""
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise RunFolderError(f"{self.path} is no file but a folder, a pipe or a device")
        with open(self.path, "rb") as file:
            for number in itertools.count(1):
                line = file.readline(_LONGEST)
                if len(line) == _LONGEST:
                    raise RunFolderError(
                        f"{self.path}:{number}: a line of more than {_LONGEST:,} bytes; the file "
                        f"is damaged; restore it"
                    )
                if not line.endswith(b"\n"):
                    return
                yield number, line

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise RunFolderError(
                f"{self.path}:{number}: not a JSON object; the file is damaged; restore it"
            )
        return record


def _cut_torn_line(path: Path) -> None:
    """Drop what follows the last newline."""
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
