"""Finding files and reading images of any kind as RGB."""

import difflib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from razorlite.core.errors import DataError

DATA_VARIABLE = "RAZORLITE_DATA"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file say.

    Attributes:
        size: (height, width) as stored.
        orientation: EXIF orientation, 1 when upright or unknown.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def turned_size(self) -> tuple[int, int]:
        """(height, width) once the EXIF orientation is applied."""
        return self.size[::-1] if self.orientation in _TURNED else self.size


def resolve(path: str | Path) -> Path:
    """Return an absolute path; relative ones are looked up in $RAZORLITE_DATA, then here."""
    path = Path(path).expanduser()
    base = os.environ.get(DATA_VARIABLE)
    if base and not path.is_absolute() and (Path(base) / path).exists():
        return (Path(base) / path).absolute()
    return path.absolute()


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
    if path.is_file():
        return path
    raise DataError(f"no {what} {path}{_where(path)}")


def need_folder(path: Path, what: str) -> Path:
    """Return `path` if it is a folder.

    Raises:
        DataError: it is not; names near folders.
    """
    if path.is_dir():
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
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    hint = near(path.name, [entry.name for entry in parent.iterdir()])
    base = os.environ.get(DATA_VARIABLE, "not set")
    return (
        f": {path.name!r} is not in {parent}{hint or ', which is empty'}; "
        f"relative paths start at ${DATA_VARIABLE} ({base}) or {Path.cwd()}"
    )


def read_header(path: Path) -> Header:
    """Read size and orientation, and decode the whole file only if its end looks cut off.

    Raises:
        OSError: the file is missing, truncated or no image.
    """
    with Image.open(path) as image:
        size, ending = image.size[::-1], _ENDINGS.get(image.format or "")
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if ending and not _ends_with(path, ending):
            _load(image)
    return Header(size, orientation if orientation in range(1, 9) else 1)


def read_image(source: str | Path | IO[bytes], turn: bool = False) -> Tensor:
    """Decode an image file of any colour kind.

    Args:
        source: a path or an open binary file.
        turn: apply the EXIF orientation.

    Returns:
        (3, H, W) uint8 RGB; memory is laid out channels last, which resizing likes best.

    Raises:
        OSError: the file is missing, truncated or no image.
    """
    with Image.open(source) as image:
        _load(image)
        upright = ImageOps.exif_transpose(image) if turn else image
        array = np.array(_rgb(upright))
    return torch.from_numpy(array).permute(2, 0, 1)


def decode(data: bytes) -> Tensor:
    """Decode an image file held in memory (see `read_image`)."""
    return read_image(io.BytesIO(data))


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except (SyntaxError, ValueError, EOFError, IndexError) as error:  # what PIL plugins let through
        raise OSError(str(error)) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _ends_with(path: Path, ending: bytes) -> bool:
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(-min(64, file.tell()), os.SEEK_END)
        return ending in file.read()
