"""What a user asks predictions of: files, folders, patterns, images in memory."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.data import Decoding
from razorlite.data.files import is_hidden, near
from razorlite.data.images import IMAGE_SUFFIXES

_PATTERN = set("*?[")


@dataclass(frozen=True)
class Picture:
    """One image to predict on.

    Attributes:
        name: its path, or its number among images in memory.
        image: (3, H, W) uint8 RGB; None where it cannot be read.
        fault: why it cannot be read; empty otherwise.
    """

    name: str
    image: Tensor | None
    fault: str = ""


def pictures(source: Any, decoding: Decoding | None = None) -> Iterator[Picture]:
    """Yield the images of a source, each read when its turn comes.

    Args:
        source: a path, a folder (all images in and below it, in order of their names), a pattern
            such as "photos/*.jpg", a PIL image, an (H, W, 3) or (H, W) uint8 array in RGB order, a
            (3, H, W) uint8 tensor, or an iterable of these.
        decoding: how files are read.

    Raises:
        DataError: there is no such file, the folder or pattern has no image, or it is none of
            these; a single image that cannot be read comes as a `Picture` with its fault.
    """
    decoding = decoding or Decoding()
    if isinstance(source, str | Path):
        for path in _files(source):
            yield _read(path, decoding)
    elif isinstance(source, Image.Image | np.ndarray | Tensor):
        yield _in_memory("0", source)
    elif isinstance(source, Iterable):
        for number, item in enumerate(source):
            single = isinstance(item, Image.Image | np.ndarray | Tensor)
            yield from [_in_memory(str(number), item)] if single else pictures(item, decoding)
    else:
        raise DataError(
            f"cannot predict on a {type(source).__name__}; expected a path, a folder, a pattern, "
            f"an image in memory, or a list of these"
        )


def count(source: Any) -> int | None:
    """Return how many images a source has, where that is known without reading them.

    Raises:
        DataError: as `pictures`.
    """
    if isinstance(source, str | Path):
        return len(_files(source))
    if isinstance(source, list | tuple):
        counts = [count(item) for item in source]
        return None if None in counts else sum(c for c in counts if c is not None)
    return 1 if isinstance(source, Image.Image | np.ndarray | Tensor) else None


def _files(source: str | Path) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir():
        inside = (p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        return _some(sorted(p for p in inside if not is_hidden(p.name)), f"folder {path}")
    if path.exists():
        return [path]
    if _PATTERN & set(str(source)):
        found = glob.glob(str(path), recursive=True)
        return _some(sorted(Path(p) for p in found if Path(p).is_file()), f"pattern {source}")
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"no image or folder {path}{near(path.name, names)}")


def _some(files: list[Path], where: str) -> list[Path]:
    if not files:
        raise DataError(f"no image in {where}; known are {', '.join(IMAGE_SUFFIXES)}")
    return files


def _read(path: Path, decoding: Decoding) -> Picture:
    try:
        return Picture(str(path), decoding.read(path))
    except OSError as error:
        return Picture(str(path), None, str(error) or type(error).__name__)


def _in_memory(name: str, item: Any) -> Picture:
    if isinstance(item, Image.Image):
        item = np.array(item.convert("RGB"))
    if isinstance(item, np.ndarray):
        grey = item.ndim == 2
        item = torch.tensor(np.stack([item] * 3, -1) if grey else item)
        item = item.permute(2, 0, 1) if item.ndim == 3 else item
    if item.ndim != 3 or item.shape[0] != 3 or item.dtype != torch.uint8 or 0 in item.shape:
        raise DataError(
            f"image {name} is {item.dtype} {tuple(item.shape)}; expected uint8 RGB, (H, W, 3) or "
            f"(H, W) as an array and (3, H, W) as a tensor"
        )
    return Picture(name, item)
