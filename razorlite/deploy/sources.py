"""What a user asks predictions of: files, folders, patterns, videos, cameras, images in memory."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.data import Decoding
from razorlite.data.files import files_under, near
from razorlite.data.images import IMAGE_SUFFIXES
from razorlite.deploy.video import VIDEO_SUFFIXES, frames, is_video

_PATTERN = set("*?[")
_EXPECTED = "expected uint8 RGB, (H, W, 3) or (H, W) as an array and (3, H, W) as a tensor"


@dataclass(frozen=True)
class Picture:
    """One image to predict on.

    Attributes:
        name: its path, or its number among images in memory.
        image: (3, H, W) uint8 RGB; None where it cannot be read.
        fault: why it cannot be read; empty otherwise.
        frame: number in its video, from 0; None of other images.
        on_disk: a file holds the image alone, so that it can be read again.
    """

    name: str
    image: Tensor | None
    fault: str = ""
    frame: int | None = None
    on_disk: bool = False


def pictures(source: Any, decoding: Decoding | None = None) -> Iterator[Picture]:
    """Yield the images of a source, each read when its turn comes.

    Args:
        source: a path, a folder (all images in and below it, in order of their names), a pattern
            such as "photos/*.jpg", a video file, the number of a camera, a PIL image, an (H, W, 3)
            or (H, W) uint8 array in RGB order, a (3, H, W) uint8 tensor, or an iterable of these.
        decoding: how files are read.

    Raises:
        DataError: there is no such file, the folder, pattern or iterable has no image, or it is
            none of these; a single image that cannot be read comes as a `Picture` with its fault.
    """
    decoding = decoding or Decoding()
    if isinstance(source, str | Path):
        for path in _files(source):
            yield from _frames(path) if is_video(path) else [_read(path, decoding)]
    elif isinstance(source, int | np.integer) and not isinstance(source, bool):
        yield from _frames(int(source))
    elif isinstance(source, Image.Image | np.ndarray | Tensor):
        yield _in_memory("0", source, decoding)
    elif isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | memoryview):
        number = None
        for number, item in enumerate(source):
            single = isinstance(item, Image.Image | np.ndarray | Tensor)
            name = str(number)
            yield from [_in_memory(name, item, decoding)] if single else pictures(item, decoding)
        if number is None:
            raise _nothing(source)
    else:
        raise DataError(
            f"cannot predict on a {type(source).__name__}; expected a path, a folder, a pattern, a "
            f"video, a camera's number, an image in memory, or a list of these"
        )


def files_of(source: Any) -> list[Path]:
    """Return the files of a source that is a path, a folder, a pattern, or a list of these.

    Raises:
        DataError: as `pictures`.
    """
    if isinstance(source, list | tuple):
        if not source:
            raise _nothing(source)
        return [file for item in source for file in files_of(item)]
    return _files(source) if isinstance(source, str | Path) else []


def count(source: Any) -> int | None:
    """Return how many images a source has, where that is known without reading them.

    Raises:
        DataError: as `pictures`.
    """
    if isinstance(source, str | Path):
        files = _files(source)
        return None if any(map(is_video, files)) else len(files)
    if isinstance(source, list | tuple):
        if not source:
            raise _nothing(source)
        counts = [count(item) for item in source]
        return None if None in counts else sum(c for c in counts if c is not None)
    return 1 if isinstance(source, Image.Image | np.ndarray | Tensor) else None


def _files(source: str | Path) -> list[Path]:
    if not str(source):
        raise DataError("the name of a source is empty; the current folder is called .")
    path = Path(source).expanduser()
    if path.is_dir():
        known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
        return _some([p for p in files_under(path) if p.suffix.lower() in known], f"folder {path}")
    if path.exists():
        return [path]
    if _PATTERN & set(str(source)):
        found = glob.glob(str(path), recursive=True)
        return _some(sorted(Path(p) for p in found if Path(p).is_file()), f"pattern {source}")
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"no image or folder {path}{near(path.name, names)}")


def _some(files: list[Path], where: str) -> list[Path]:
    if not files:
        known = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
        raise DataError(f"no image in {where}; known are {known}")
    return files


def _nothing(source: Iterable[Any]) -> DataError:
    return DataError(f"no image to look at: the {type(source).__name__} is empty")


def _read(path: Path, decoding: Decoding) -> Picture:
    try:
        return Picture(str(path), decoding.read(path), on_disk=True)
    except OSError as error:
        return Picture(str(path), None, str(error) or type(error).__name__)


def _frames(source: Path | int) -> Iterator[Picture]:
    """Yield the frames of a video, and what ends it before its end as a fault."""
    name = f"camera {source}" if isinstance(source, int) else str(source)
    number = numbers()
    try:
        for array in frames(source):
            yield Picture(name, torch.from_numpy(array).permute(2, 0, 1), frame=next(number))
    except (DataError, OSError) as error:
        yield Picture(name, None, str(error), frame=next(number))


def _in_memory(name: str, item: Any, decoding: Decoding) -> Picture:
    if isinstance(item, Image.Image):
        try:
            return Picture(name, decoding.convert(item))
        except OSError as error:
            return Picture(name, None, str(error))
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8:
            raise DataError(f"image {name} is an array of {item.dtype}; {_EXPECTED}")
        grey = item.ndim == 2
        item = torch.from_numpy(np.stack([item] * 3, -1) if grey else item.copy())
        item = item.permute(2, 0, 1) if item.ndim == 3 else item
    if item.ndim != 3 or item.shape[0] != 3 or item.dtype != torch.uint8 or 0 in item.shape:
        raise DataError(f"image {name} is {item.dtype} {tuple(item.shape)}; {_EXPECTED}")
    return Picture(name, item)
