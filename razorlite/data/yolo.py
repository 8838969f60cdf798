"""YOLO text: one label file for each image, boxes or polygons in shares of the image's size."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from razorlite.core.errors import DataError
from razorlite.core.files import resolve
from razorlite.core.registry import register, suggestion
from razorlite.data._segments import WITHOUT
from razorlite.data._yolo_files import (
    DataFile,
    Line,
    images_of,
    label_file,
    largest,
    read_data_file,
    read_labels,
    split_images,
)
from razorlite.data.dataset import ClassNames
from razorlite.data.faults import FaultReport, first_line
from razorlite.data.files import need_file, need_folder
from razorlite.data.images import Decoding
from razorlite.data.records import Objects, Record, RecordDataset, check_image, finish

_FARTHEST = 1.5  # shares of the image; what is written beyond is in pixels
_UNLABELLED = "image without a label file, taken as one without objects"


@register()
class YoloDataset(RecordDataset):
    """Images with one label file each, as Ultralytics, Darknet and Roboflow's exports have them.

    A line of a label file is "class x y width height" of a box, its centre and size in shares of
    the image's width and height, or "class x y x y x y …" of a polygon. The labels of
    `images/…/a.jpg` are `labels/…/a.txt`, else `a.txt` beside the image; an image without one has
    no objects. Keypoints behind boxes (`kpt_shape` of data.yaml) are left out. Faulty images and
    lines are reported, dropped and counted in `faults`.

    Args:
        root: folder of the data set, or its data.yaml.
        split: train, val or test of data.yaml; or a folder of images or a text file that lists
            them, relative to `root`; all images of the folder by default.
        classes: names in the order of the labels, matched by name to those of data.yaml, whose
            order is the default; other classes are left out. Without a data.yaml they are the names
            of the class ids 0, 1, 2, ….
        masks: fill `Target.masks`, (N, H, W) bool, from polygons.
        keep_empty: keep images without objects.
        decoding: how image files are read.
        cache: keep decoded images in memory.
        strict: raise all faults instead of dropping.

    Raises:
        DataError: a file or folder is missing, the split or a class is not in data.yaml, nothing
            usable is left, or faults with `strict`.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str | None = None,
        classes: ClassNames | None = None,
        masks: bool = False,
        keep_empty: bool = True,
        decoding: Decoding | None = None,
        cache: bool = False,
        strict: bool = False,
    ) -> None:
        base = resolve(root)
        data = _data_file(base)
        names = _class_names(data, classes, base)
        folder, images = _images(base, data, split)
        report = FaultReport(f"{folder}{f' ({split})' if split else ''}", strict)
        how = decoding or Decoding()
        keypoints = data is not None and data.keypoints
        reader = _Reader(_labels(data, names), report, how, masks, keypoints)
        found = [reader.record(image, index) for index, image in enumerate(_once(images, report))]
        reader.check_labelled()
        records = finish(
            [record for record in found if record is not None],
            report, check_images=False, keep_empty=keep_empty, decoding=how, masks=masks,
        )  # fmt: skip
        super().__init__(
            records=records,
            root=folder,
            classes=names,
            report=report,
            masks=masks,
            cache=cache,
            decoding=how,
        )


@dataclass
class _Reader:
    """Turns label files into records, noting what is wrong.

    Attributes:
        labels: of class ids; None for classes that are not asked for.
        report: gets the faults.
        decoding: how image files are read.
        masks: objects need a polygon.
        keypoints: they follow boxes, and are left out.
    """

    labels: dict[int, int | None]
    report: FaultReport
    decoding: Decoding
    masks: bool
    keypoints: bool
    labelled: int = 0
    first: Path | None = None

    def record(self, image: Path, index: int) -> Record | None:
        """Return the record of one image, None if the image cannot be used."""
        record = Objects().record(image, index, (0, 0))
        if not check_image(record, self.report, self.decoding):
            return None
        objects, path = Objects(), label_file(image)
        self.first = self.first or path
        for number, line in enumerate(self._lines(path), start=1):
            self._append(line, record.size, objects, path, f"line {number} of {path.name}")
        complete = objects.record(image, index, record.size)
        complete.turned = record.turned
        return complete

    def check_labelled(self) -> None:
        """Raise if no image has a label file: the labels are elsewhere."""
        if self.labelled == 0 and self.first is not None:
            raise DataError(
                f"{self.report.source}: no image has a label file; the first was looked for at "
                f"{self.first}; expected labels/…/NAME.txt for images/…/NAME.jpg"
            )

    def _lines(self, path: Path) -> list[Line | str]:
        if not path.exists():
            self.report.set_aside(_UNLABELLED)
            return []
        self.labelled += 1
        try:
            return read_labels(path, self.keypoints)
        except OSError as error:
            self.report.add(path, "label file that cannot be read", first_line(error))
            return []

    def _append(
        self, line: Line | str, size: tuple[int, int], objects: Objects, path: Path, where: str
    ) -> None:
        fault = self._fault(line)
        if fault is not None:
            self.report.add(path, fault[0], f"{where}: {fault[1]}")
            return
        assert isinstance(line, Line)
        label = self.labels[line.class_id]
        if label is None:
            self.report.set_aside("of a class that classes does not name")
            return
        corners = _in_pixels(line.outline, size)
        objects.boxes.append(_box(line, size) if line.box else _around(corners))
        objects.segments.append([corners] if self.masks else None)
        objects.labels.append(label)
        objects.crowd.append(False)
        objects.names.append(where)

    def _fault(self, line: Line | str) -> tuple[str, str] | None:
        """Return what is wrong with an object for which it is left out."""
        if isinstance(line, str):
            return "line that is no object", line
        if line.class_id not in self.labels:
            return "unknown class id", f"{line.class_id}; expected 0 to {max(self.labels)}"
        if largest([*line.box, *line.outline]) > _FARTHEST:
            return "numbers that are no shares of the image", "expected 0 to 1; are they pixels?"
        return (WITHOUT, "a box alone") if self.masks and line.box else None


def _once(images: list[Path], report: FaultReport) -> list[Path]:
    """Return the images without those that are listed again."""
    seen: dict[Path, None] = {}
    for image in images:
        if image in seen:
            report.add(image, "duplicate image")
        seen[image] = None
    return list(seen)


def _box(line: Line, size: tuple[int, int]) -> list[float]:
    """Return x1, y1, x2, y2 in pixels."""
    x, y, width, height = line.box
    return _in_pixels([x - width / 2, y - height / 2, x + width / 2, y + height / 2], size)


def _in_pixels(shares: list[float] | tuple[float, ...], size: tuple[int, int]) -> list[float]:
    """Return x, y, x, y, … in pixels."""
    pixels: list[float] = (
        (np.array(shares, dtype=np.float64).reshape(-1, 2) * size[::-1]).ravel().tolist()
    )
    return pixels


def _around(corners: list[float]) -> list[float]:
    xs, ys = corners[0::2], corners[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]


def _data_file(base: Path) -> DataFile | None:
    """Return the data.yaml that is named, or that the folder has."""
    if base.suffix.lower() in (".yaml", ".yml"):
        return read_data_file(need_file(base, "data file"))
    folder = need_folder(base, "data folder")
    found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    named = [path for path in found if path.stem in ("data", "dataset")]
    chosen = named or (found if len(found) == 1 else [])
    return read_data_file(chosen[0]) if chosen else None


def _class_names(data: DataFile | None, classes: list[str] | None, base: Path) -> tuple[str, ...]:
    if data is None:
        if classes is None:
            raise DataError(f"{base} has no data.yaml; name the classes of the ids 0, 1, … ")
        return tuple(classes)
    there = [data.names[key] for key in sorted(data.names)]
    for name in classes or ():
        if name not in there:
            hint = suggestion(name, there) or f"; it has {there}"
            raise DataError(f"{data.path}: no class {name!r}{hint}")
    return tuple(dict.fromkeys(there)) if classes is None else tuple(classes)


def _labels(data: DataFile | None, names: tuple[str, ...]) -> dict[int, int | None]:
    """Return class id → label, None for classes that are not asked for."""
    order = {name: label for label, name in enumerate(names)}
    ids = dict(enumerate(names)) if data is None else data.names
    return {key: order.get(name) for key, name in ids.items()}


def _images(base: Path, data: DataFile | None, split: str | None) -> tuple[Path, list[Path]]:
    """Return the folder that the images are named from, and the images.

    Raises:
        DataError: the split names nothing that is there.
    """
    folder = data.root if data else base
    if data is not None and split in data.splits:
        return split_images(data, split)
    if split is None:
        return folder, images_of(folder, ".")
    if data is not None and not (folder / split).exists():
        return split_images(data, split)
    return folder, images_of(folder, split)
