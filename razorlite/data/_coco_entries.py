"""The entries of a COCO file: categories, images and annotations, each fault named by its place."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from razorlite.core.errors import DataError
from razorlite.core.registry import suggestion
from razorlite.data._segments import WITHOUT
from razorlite.data._values import finite, flag, identity, number, shown
from razorlite.data.faults import FaultReport
from razorlite.data.records import Objects, Record

Key = int | str
_LARGEST = 1 << 20  # pixels of an image's side; what is stated beyond is no size


def read_categories(
    entries: list[Any], classes: list[str] | None, path: Path, report: FaultReport
) -> tuple[dict[Key, int | None], tuple[str, ...]]:
    """Return category id → label (None: not asked for), and the class names.

    Categories of one name are one class.

    Raises:
        DataError: a class that no category has or that is named twice, an id of two categories, or
            no category at all can be used.
    """
    known = _names(entries, path, report)
    if not known:
        what = f"each category lacks 'id' or 'name', such as {shown(entries[0])}" if entries else ""
        raise DataError(
            f'{path}: {what or "it has no categories"}; expected "categories": [{{"id": 1, "name": '
            f'"cat"}}, …]'
        )
    if classes is not None and not classes:
        raise DataError(f"{path}: classes is empty; name some, or leave it out to take all")
    ordered = [known[key] for key in sorted(known, key=lambda key: (isinstance(key, str), key))]
    names = tuple(dict.fromkeys(ordered)) if classes is None else tuple(classes)
    for name in names:
        if name not in ordered:
            hint = suggestion(name, ordered)
            raise DataError(f"{path}: no category {name!r}{hint or f'; it has {ordered}'}")
    order = {name: label for label, name in enumerate(names)}
    if len(order) < len(names):
        raise DataError(f"{path}: classes names one class twice: {list(names)}; name each once")
    return {key: order.get(name) for key, name in known.items()}, names


def _names(entries: list[Any], path: Path, report: FaultReport) -> dict[Key, str]:
    known: dict[Key, str] = {}
    for index, entry in enumerate(entries):
        key = identity(entry.get("id")) if isinstance(entry, dict) else None
        name = _text(entry.get("name")) if isinstance(entry, dict) else None
        if key is None or name is None:
            kind = "category that lacks 'id' or 'name'"
            report.add(path, kind, f"categories[{index}] is {shown(entry)}")
        elif known.setdefault(key, name) != name:
            raise DataError(
                f"{path}: categories {known[key]!r} and {name!r} have the id {key}, so that the "
                f"objects' classes are not known; give each an id of its own"
            )
    _note_one_name(known, path, report)
    return known


def _note_one_name(known: dict[Key, str], path: Path, report: FaultReport) -> None:
    first: dict[str, Key] = {}
    for key, name in known.items():
        if first.setdefault(name, key) != key:
            what = f"ids {first[name]} and {key} are both {name!r}"
            report.add(path, "categories of one name, read as one class", what)


@dataclass(frozen=True)
class _Image:
    path: Path
    size: tuple[int, int]


class Reader:
    """Turns the lists of a COCO file into records, noting what is wrong.

    Args:
        path: the file.
        folder: of the images.
        labels: of category ids; None for those that are not asked for.
        report: gets the faults.
        masks: objects need a mask.
    """

    def __init__(
        self,
        *,
        path: Path,
        folder: Path,
        labels: dict[Key, int | None],
        report: FaultReport,
        masks: bool,
    ) -> None:
        self.path, self.folder, self.labels = path, folder, labels
        self.report, self.masks = report, masks
        self._images: dict[Key, _Image | None] = {}  # None: listed, but left out
        self._objects: dict[Key, Objects] = {}
        self._seen: set[tuple[Any, ...]] = set()

    def records(self, images: list[Any], annotations: list[Any]) -> list[Record]:
        """Return one record for each image, in the file's order."""
        self._read_images(images)
        self._objects = {key: Objects() for key in self._images}
        for index, entry in enumerate(annotations):
            self._read_object(index, entry)
        return [
            self._objects[key].record(image.path, key, image.size)
            for key, image in self._images.items()
            if image is not None
        ]

    def _read_images(self, entries: list[Any]) -> None:
        files: dict[str, Key] = {}
        for index, entry in enumerate(entries):
            key = identity(entry.get("id")) if isinstance(entry, dict) else None
            name = _file_name(entry.get("file_name")) if isinstance(entry, dict) else None
            if key is not None and name is not None:
                self._read_image(entry, key, _locate(self.folder, name), files)
                continue
            kind = "image entry that lacks id or file_name"
            self.report.add(self.path, kind, f"images[{index}] is {shown(entry)}")
            if key is not None:
                self._images.setdefault(key, None)

    def _read_image(
        self, entry: dict[str, Any], key: Key, path: Path, files: dict[str, Key]
    ) -> None:
        """Take an image in, unless its id or its file was there before.

        If two files have one id, nobody knows whose objects are whose: both are left out.
        """
        file = os.path.normpath(path)
        if key in self._images:
            same = files.get(file) == key
            what = f"{key} again" if same else f"{key} is another image, too; neither is used"
            self.report.add(path, "duplicate image id", what)
            self._images[key] = self._images[key] if same else None
        elif file in files:
            self.report.add(path, "duplicate image", f"id {key}, but also {files[file]}")
            self._images[key] = None
        else:
            files[file] = key
            self._images[key] = _Image(path, self._size(entry, path))

    def _size(self, entry: dict[str, Any], path: Path) -> tuple[int, int]:
        """Return (height, width), (0, 0) where the file does not say."""
        stated = entry.get("height"), entry.get("width")
        sides = [finite(side) for side in stated]
        if all(side is not None and 1 <= side <= _LARGEST and side == int(side) for side in sides):
            return int(sides[0]), int(sides[1])  # type: ignore[arg-type]
        if not any(side is None or side == 0 for side in stated):
            what = f"height {shown(stated[0])}, width {shown(stated[1])}"
            self.report.add(path, "image size that is none, taken from the file", what)
        return 0, 0

    def _read_object(self, index: int, entry: Any) -> None:
        if not isinstance(entry, dict):
            kind = "annotation that is no object"
            self.report.add(self.path, kind, f"annotations[{index}] is {shown(entry)}")
            return
        name = _called(entry, index)
        key, category = identity(entry.get("image_id")), identity(entry.get("category_id"))
        if key is None or key not in self._images:
            kind = "annotation of an unknown image"
            self.report.add(self.path, kind, f"image_id {shown(entry.get('image_id'))} ({name})")
            return
        image = self._images[key]
        if image is None:
            return
        if category is None or category not in self.labels:
            what = f"category_id {shown(entry.get('category_id'))} ({name})"
            self.report.add(image.path, "unknown category", what)
            return
        label = self.labels[category]
        if label is None:
            self.report.set_aside("of a category that classes does not name")
            return
        self._append(entry, label, self._objects[key], image.path, name)

    def _append(
        self, entry: dict[str, Any], label: int, objects: Objects, path: Path, name: str
    ) -> None:
        sides, segment = _box(entry), entry.get("segmentation") or None
        crowd = flag(entry.get("iscrowd"))
        fault = self._fault(entry, sides, crowd, (objects, label))
        if fault:
            self.report.add(path, fault[0], f"{fault[1]} ({name})")
            return
        if sides is None and entry.get("bbox"):
            what = f"{shown(entry['bbox'])} ({name})"
            self.report.add(path, "box that is not four numbers, taken from the mask", what)
        x, y, width, height = sides or [math.nan] * 4
        objects.boxes.append([x, y, x + width, y + height])
        objects.labels.append(label)
        objects.crowd.append(bool(crowd))
        objects.area.append(self._area(entry, width * height, path, name))
        objects.segments.append(segment if self.masks or sides is None else None)
        objects.names.append(name)

    def _fault(
        self, entry: dict[str, Any], sides: list[float] | None, crowd: bool | None, owner: Any
    ) -> tuple[str, str] | None:
        """Return what is wrong with an annotation for which it is left out."""
        if sides is None and not entry.get("segmentation"):
            return "box that is not four numbers", shown(entry.get("bbox"))
        if self.masks and not entry.get("segmentation"):
            return WITHOUT, f"segmentation {shown(entry.get('segmentation'))}"
        if crowd is None:
            return "iscrowd that is neither 0 nor 1", shown(entry.get("iscrowd"))
        key = identity(entry.get("id"))
        if key is not None and sides is not None:
            again = (key, id(owner[0]), owner[1], *sides)
            if again in self._seen:
                return "duplicate annotation", "the same id, image, category and box"
            self._seen.add(again)
        return None

    def _area(self, entry: dict[str, Any], of_box: float, path: Path, name: str) -> float:
        stated = entry.get("area")
        area = finite(stated)
        if area is not None and area >= 0:
            return area or of_box
        if stated is not None:
            what = f"{shown(stated)} ({name})"
            self.report.add(path, "area that is no number from 0, taken from the box", what)
        return of_box


def _called(entry: dict[str, Any], index: int) -> str:
    key = identity(entry.get("id"))
    if key is None:
        return f"annotations[{index}]"
    return f"annotation {key if isinstance(key, int) else shown(key)}"


def _text(value: Any) -> str | None:
    if not isinstance(value, str) and (isinstance(value, bool) or finite(value) is None):
        return None
    return str(value) if str(value).strip() else None


def _box(entry: dict[str, Any]) -> list[float] | None:
    """Return x, y, width, height; None if they are not given or a mask knows better."""
    value = entry.get("bbox")
    if not isinstance(value, list) or len(value) != 4:
        return None
    sides = [number(side) for side in value]
    if None in sides or (entry.get("segmentation") and not all(map(math.isfinite, sides))):  # type: ignore[arg-type]
        return None
    return sides  # type: ignore[return-value]


def _file_name(value: Any) -> str | None:
    """Return a file's name that the system can look for."""
    name = _text(value)
    if name is None or "\0" in name:
        return None
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return None
    return name


def _locate(folder: Path, name: str) -> Path:
    """Return where an image is, also if it is named as its writer's machine saw it.

    Backslashes part folders where no file has them in its name; of paths that start elsewhere (at
    a root, a drive, or outside the image folder) the end that is in the folder counts.
    """
    path = folder / name
    parts = [part for part in re.split(r"[\\/]+", name) if part]
    foreign = "\\" in name or name.startswith("/") or parts[0].endswith(":")
    if not (foreign or parts[0] == folder.name) or os.path.exists(path):
        return path
    for start in range(len(parts)):
        inside = folder.joinpath(*parts[start:])
        if os.path.exists(inside):
            return inside
    return path
