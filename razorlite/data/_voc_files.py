"""Which images a VOC set has: split files, names, and the files that belong to a name."""

import codecs
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from razorlite.core.errors import DataError
from razorlite.data.faults import FaultReport
from razorlite.data.files import files_under, read_bytes, relative
from razorlite.data.images import IMAGE_SUFFIXES

_SPLIT_BYTES = 1 << 26  # of the largest split file that is read
_LINE = 4096  # characters; no path is longer
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# "name 1", "name -1" as in VOC's lists of one class; "image.jpg annotation.xml"
_COLUMNS = re.compile(r"(?P<name>.*\S)\s+(?P<mark>-?[01]|\S+\.xml)", re.IGNORECASE)


class NamedFiles:
    """The files of a folder by their names: paths relative to it, without the suffix.

    A name that is not there as it is written is looked for with other suffixes, with capitals
    and small letters taken as equal, and with accents composed or not.

    Args:
        folder: where the files are, and in the folders below it.
        suffixes: of the files; the first is preferred.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str]) -> None:
        self.folder, self.suffixes = folder, tuple(dict.fromkeys(suffixes))

    def find(self, name: str) -> Path | None:
        """Return the file of a name, or None."""
        exact = self.folder / f"{name}{self.suffixes[0]}"
        if os.path.lexists(exact):
            return exact
        return min(
            self._files.get(_folded(name), ()), key=lambda f: self._rank(f, name), default=None
        )

    def files(self) -> list[Path]:
        """Return all files, sorted."""
        return sorted(file for files in self._files.values() for file in files)

    def name(self, file: Path) -> str:
        """Return the name of one of the files."""
        return relative(file.with_suffix(""), self.folder)

    def _rank(self, file: Path, name: str) -> tuple[bool, bool, str]:
        return self.name(file) != name, file.suffix != self.suffixes[0], str(file)

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = defaultdict(list)
        for file in files_under(self.folder):
            if file.suffix.lower() in self.suffixes:
                found[_folded(self.name(file))].append(file)
        return found


def image_files(folder: Path, suffix: str) -> NamedFiles:
    """Return the images of a folder; files of the suffix are preferred."""
    return NamedFiles(folder, [suffix, *IMAGE_SUFFIXES])


class SplitReader:
    """Reads the names in split files.

    A line is a name, perhaps followed by 1, 0 or -1 (-1: not in this split) or by an xml file.
    Names may hold spaces: a line is a name as a whole if such a file exists, unless the name before
    the last word exists as well and all lines of the file end with such words. Suffixes, and
    folders in front, may be there if no file is called so.

    Args:
        annotations: the xml files.
        images: the images.
        report: takes faults.
    """

    def __init__(self, annotations: NamedFiles, images: NamedFiles, report: FaultReport) -> None:
        self.annotations, self.images, self.report = annotations, images, report

    def names(self, lines: Mapping[Path, Sequence[str]]) -> list[str]:
        """Return the names that split files list, each once.

        Args:
            lines: of each split file.

        Raises:
            DataError: there are none.
        """
        names: dict[str, None] = {}
        for file, listed in lines.items():
            for name in self._named(listed):
                if name in names:
                    self.report.add(file, "duplicate image", name)
                names[name] = None
        if not names:
            raise DataError(f"{self.report.source} lists no images; expected one name a line")
        return list(names)

    def _named(self, lines: Sequence[str]) -> Iterator[str]:
        columns = all(_COLUMNS.fullmatch(line) for line in lines)
        for line in lines:
            name = self._name(line, columns)
            if name is not None:
                yield name

    def _name(self, line: str, columns: bool) -> str | None:
        """Return the name in a line; None if it is marked as not in this split."""
        marked = _COLUMNS.fullmatch(line)
        before = self._existing(marked["name"]) if marked else None
        whole = None if before and columns else self._existing(line)
        if marked and (columns if bool(before) == bool(whole) else before):
            return None if marked["mark"] == "-1" else before or marked["name"]
        return whole or line

    def _existing(self, text: str) -> str | None:
        """Return the name that a text stands for, if there is a file of it."""
        return next((name for name in _spellings(text) if self._exists(name)), None)

    def _exists(self, name: str) -> bool:
        return (self.annotations.find(name) or self.images.find(name)) is not None


def split_lines(files: Sequence[Path]) -> dict[Path, list[str]]:
    """Return the lines of split files that are not empty.

    Raises:
        DataError: a file cannot be read or is no list of names, or all are empty.
    """
    lines = {
        file: [line.strip() for line in re.split(r"[\r\n]+", _read_text(file)) if line.strip()]
        for file in files
    }
    for file, listed in lines.items():
        longest = max(map(len, listed), default=0)
        if longest > _LINE:
            raise DataError(f"{file}: a line has {longest} characters; expected one name a line")
    if files and not any(lines.values()):
        named = ", ".join(map(str, files))
        raise DataError(f"{named} lists no images; expected one name a line")
    return lines


def _read_text(file: Path) -> str:
    """Return a text in UTF-8, UTF-16 or UTF-32, else in Latin-1."""
    try:
        data = read_bytes(file, _SPLIT_BYTES)
        text = data.decode(marked_encoding(data) or "utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    except OSError as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if "\0" in text:
        raise DataError(f"{file} is no text: it holds zeros; expected one name a line")
    return text


def marked_encoding(data: bytes) -> str | None:
    """Return the encoding that a text's first bytes tell of, None if they do not."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return encoding
    zeros = [byte == 0 for byte in data[:4]]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False, True, False] else None


def _spellings(text: str) -> Iterator[str]:
    """Yield what a text in a split file may mean, the likeliest first."""
    yield text
    path = text.replace("\\", "/").removeprefix("./")
    for name in (path, without_suffix(path)):
        parts = [part for part in name.split("/") if part]
        yield from ("/".join(parts[start:]) for start in range(len(parts)))


def without_suffix(name: str) -> str:
    """Return the name of an image or xml file without its suffix; other dots stay."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
