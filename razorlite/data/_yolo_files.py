"""The files of a YOLO set: data.yaml, split lists, and lines of label files."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from razorlite.core import config
from razorlite.core.errors import ConfigError, DataError
from razorlite.data._voc_files import split_lines
from razorlite.data.files import files_under, near, need_folder, read_bytes
from razorlite.data.images import IMAGE_SUFFIXES

_LABEL_BYTES = 1 << 26  # of the largest label file that is read
_SHOWN = 60  # characters of a faulty line
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class DataFile:
    """What data.yaml says.

    Attributes:
        path: the file.
        root: folder that its paths start from.
        names: class id to name.
        splits: name of each split to its folders, lists or files of image paths.
        keypoints: whether keypoints follow the boxes of its label files.
    """

    path: Path
    root: Path
    names: dict[int, str]
    splits: dict[str, list[str]]
    keypoints: bool = False


def read_data_file(path: Path) -> DataFile:
    """Return what a data.yaml says; `names` may be a list or a mapping from class ids.

    Raises:
        DataError: it cannot be read, or names no classes.
    """
    try:
        tree = config.parse(read_bytes(path, _LABEL_BYTES).decode("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise DataError(f"{path} cannot be read: {str(error).removeprefix(f'{path}:')}") from error
    root = _root(path, tree.get("path"))
    splits = _split_entries(tree, root)
    return DataFile(path, root, _names(path, tree), splits, bool(tree.get("kpt_shape")))


def _names(path: Path, tree: dict[str, Any]) -> dict[int, str]:
    names = tree.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    named = isinstance(names, dict) and all(re.fullmatch(r"\d{1,9}", str(key)) for key in names)
    if not named or not names or any(isinstance(v, dict | list | None) for v in names.values()):
        raise DataError(
            f"{path}: names is {str(tree.get('names'))[:_SHOWN]}; expected class names, such as "
            f"names: [cat, dog]"
        )
    return {int(key): str(name) for key, name in names.items()}


def _split_entries(tree: dict[str, Any], root: Path) -> dict[str, list[str]]:
    """Return the splits of the usual names, then those of others whose folders are there."""
    splits: dict[str, list[str]] = {}
    for split, spellings in _SPLITS.items():
        given = next((tree[key] for key in spellings if tree.get(key)), None)
        if given is not None:
            splits[split] = [str(one) for one in (given if isinstance(given, list) else [given])]
    known = {"path", "names", *(key for spellings in _SPLITS.values() for key in spellings)}
    for key, value in tree.items():
        if key not in known and value and isinstance(value, str) and os.path.isdir(root / value):
            splits[key] = [value]
    return splits


def _root(path: Path, stated: Any) -> Path:
    """Return the folder that `path:` names if it is there; it is often another machine's."""
    folder = path.parent / str(stated or "")
    return folder if folder.is_dir() else path.parent


def split_images(data: DataFile, split: str) -> tuple[Path, list[Path]]:
    """Return the folder and the images of one split of a data.yaml.

    Raises:
        DataError: there is no such split, or it names what is not there.
    """
    if split not in data.splits:
        known = near(split, data.splits) or "; it has none"
        raise DataError(f"{data.path}: no split {split!r}{known}")
    images: list[Path] = []
    for entry in data.splits[split]:
        images += images_of(data.root, entry)
    return data.root, images


def images_of(root: Path, entry: str) -> list[Path]:
    """Return the images that a folder holds or a text file lists.

    Folders that are written as seen from elsewhere ("../train/images" in Roboflow's exports) are
    looked for by the part that is there.

    Raises:
        DataError: there is no such folder or file.
    """
    path = _existing(root, entry)
    if path.is_file() and path.suffix.lower() == ".txt":
        return [_existing(path.parent, line, base=root) for line in split_lines([path])[path]]
    folder = need_folder(path, "image folder")
    return [file for file in files_under(folder) if file.suffix.lower() in IMAGE_SUFFIXES]


def _existing(root: Path, name: str, base: Path | None = None) -> Path:
    """Return where a path leads from `root` or `base`; by its last parts if not as written."""
    parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".")]
    for folder in (root, base or root):
        if os.path.lexists(folder / name):
            return Path(os.path.normpath(folder / name))
        for start in range(len(parts)):
            inside = folder.joinpath(*parts[start:])
            if ".." not in parts[start:] and os.path.lexists(inside):
                return inside
    return root / name


def label_file(image: Path) -> Path:
    """Return where an image's labels are: "labels" for the last "images" of its path, and .txt."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() == "images":
            parts[place] = "labels"
            swapped = Path(*parts).with_suffix(".txt")
            beside = image.with_suffix(".txt")
            return beside if beside.is_file() and not swapped.is_file() else swapped
    return image.with_suffix(".txt")


@dataclass(frozen=True)
class Line:
    """One object of a label file, in shares of the image's width and height.

    Attributes:
        class_id: of the object.
        box: centre x, centre y, width, height; empty where there is an outline.
        outline: x, y, x, y, … of a polygon; empty where there is a box.
    """

    class_id: int
    box: tuple[float, ...] = ()
    outline: tuple[float, ...] = ()


def read_labels(path: Path, keypoints: bool = False) -> list[Line | str]:
    """Return the objects of a label file; what is wrong in the place of a faulty line.

    Args:
        path: the file.
        keypoints: whether keypoints follow boxes; they are left out.

    Raises:
        OSError: it cannot be read or is no text.
    """
    try:
        text = read_bytes(path, _LABEL_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(f"it is no text: {error.reason}") from error
    return [read_line(line, keypoints) for line in text.splitlines() if line.strip()]


def read_line(line: str, keypoints: bool = False) -> Line | str:
    """Return an object, or what is wrong with its line.

    Five numbers are class id, centre and size of a box; an odd number from seven on, class id and
    the corners of a polygon, or with `keypoints` a box and what follows it.
    """
    words = line.replace(",", " ").split()
    numbers = [_number(word) for word in words]
    if not all(map(math.isfinite, numbers)):
        return f"{line[:_SHOWN]!r} has words that are no numbers"
    if numbers[0] < 0 or numbers[0] != int(numbers[0]):
        return f"{line[:_SHOWN]!r}: the class id {words[0][:20]} is no whole number from 0"
    if len(numbers) == 5 or (keypoints and len(numbers) > 5):
        return Line(int(numbers[0]), box=tuple(numbers[1:5]))
    if len(numbers) >= 7 and len(numbers) % 2:
        return Line(int(numbers[0]), outline=tuple(numbers[1:]))
    return f"{line[:_SHOWN]!r} has {len(words)} numbers; expected 5 (a box), or 7, 9, … (a polygon)"


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def largest(values: Sequence[float]) -> float:
    """Return the largest absolute value, 0 of none."""
    return max(map(abs, values), default=0.0)
