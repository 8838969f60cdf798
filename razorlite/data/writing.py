"""Data sets written in another format: COCO json, VOC xml, YOLO text."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import yaml

from razorlite.core.errors import DataError
from razorlite.core.files import explain_write_errors, make_folder, write_text_atomic
from razorlite.core.progress import progress
from razorlite.data._segments import as_coco
from razorlite.data._yolo_files import label_file
from razorlite.data.dataset import Dataset
from razorlite.data.files import relative
from razorlite.data.joining import records_of
from razorlite.data.records import Record
from razorlite.data.relabelling import relabelled

CROWDS = "objects marked as crowd or difficult, which are left out"
MASKS = "masks, which are left out"
PARTS = "masks of several parts, which become boxes"
Format = Literal["coco", "voc", "yolo"]


@dataclass
class Written:
    """What was written.

    Attributes:
        out: the folder.
        images: split to number of images.
        objects: split to number of objects.
        lost: what the format cannot say, by kind, and of how many objects.
    """

    out: Path
    images: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain values."""
        splits = {
            split: {"images": count, "objects": self.objects[split]}
            for split, count in self.images.items()
        }
        return {"out": str(self.out), "splits": splits, "lost": dict(+self.lost)}

    def lines(self) -> list[str]:
        """Return what was written, a line for each split."""
        splits = self.images.items()
        return [f"{self.out}: {s}: {n} images, {self.objects[s]} objects" for s, n in splits]


def write(
    datasets: Mapping[str, Dataset], out: str | Path, *, format: Format, link: bool = False
) -> Written:
    """Write data sets of boxes, and masks if they have them, to a folder.

    COCO: `annotations/SPLIT.json` and `images/SPLIT/`. VOC: Annotations, JPEGImages and
    ImageSets/Main. YOLO: data.yaml, `images/SPLIT/` and `labels/SPLIT/`. Images keep their names
    below the data set's folder, so that none takes another's place. Where an error or an
    interruption ends it early, nothing is left.

    Args:
        datasets: name of each split to its data set; classes are matched by name, the first one's
            are written.
        out: a folder that does not exist or is empty.
        format: "coco", "voc" or "yolo".
        link: make symbolic links to the image files instead of copies.

    Raises:
        DataError: a data set has no boxes, or objects of classes that the first lacks; two images
            would have one name; or the format cannot say how an image lies.
        RunFolderError: the folder is in use or cannot be written.
    """
    with _all_or_nothing(Path(out)) as folder:
        datasets = _with_one_list(datasets)
        classes = tuple(next(iter(datasets.values())).classes)
        written = Written(folder)
        place = _Images(folder, link)
        records = {split: list(_records(dataset)) for split, dataset in datasets.items()}
        for split, found in records.items():
            written.images[split] = len(found)
            written.objects[split] = sum(len(record.boxes) for _, record in found)
        _WRITERS[format](records, classes, place, written)
    return written


Records = Mapping[str, list[tuple[str, Record]]]


def _records(dataset: Dataset) -> Iterator[tuple[str, Record]]:
    """Yield each record and its image's path below the folder of all of them.

    Raises:
        DataError: the data set is none of annotated boxes.
    """
    records = records_of(dataset)
    if records is None:
        raise DataError(f"{type(dataset).__name__} has no boxes; expected a data set of boxes")
    folder = os.path.commonpath([record.path.parent for record in records])
    for record in records:
        yield relative(record.path, folder), record


def _with_one_list(datasets: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Return the data sets with the first one's list of classes, matched by name."""
    first = next(iter(datasets))
    classes = datasets[first].classes
    return {
        split: relabelled(dataset, classes, name=split, reference=first)
        for split, dataset in datasets.items()
    }


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """Give a new or an empty folder, which is empty or gone again if the block is not completed."""
    was_there = folder.exists()
    if was_there and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already; name a new or an empty folder")
    make_folder(folder)
    try:
        yield folder
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not was_there:
            folder.rmdir()
        raise


@dataclass
class _Images:
    """Puts image files below a folder, each under a name of its own."""

    folder: Path
    link: bool
    taken: dict[Path, Path] = field(default_factory=dict)

    def put(self, source: Path, below: str, name: str) -> Path:
        """Copy or link an image to FOLDER/BELOW/NAME and return that path."""
        parts = [part for part in Path(name).parts if part not in ("..", "/")]
        target = self.folder.joinpath(below, *parts)
        key = target.with_suffix("")
        if self.taken.setdefault(key, source) != source:
            called = relative(target, self.folder)
            raise DataError(
                f"{source} and {self.taken[key]} would both be called {called}; rename one"
            )
        if target.exists():  # of two splits
            return target
        make_folder(target.parent)
        with explain_write_errors(target):
            if self.link:
                target.symlink_to(source)
            else:
                shutil.copyfile(source, target)
        return target


def _write_coco(
    records: Records, classes: tuple[str, ...], place: _Images, written: Written
) -> None:
    for split, found in records.items():
        tree: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        for number, (name, record) in enumerate(progress(found, "images", len(found)), start=1):
            image = place.put(record.path, f"images/{split}", name)
            file_name = relative(image, place.folder / "images" / split)
            height, width = record.size
            entry = {"id": number, "file_name": file_name, "height": height, "width": width}
            tree["images"].append(entry)
            for one in _coco_objects(record):
                one |= {"id": len(tree["annotations"]) + 1, "image_id": number}
                tree["annotations"].append(one)
        tree["categories"] = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
        path = place.folder / "annotations" / f"{split}.json"
        write_text_atomic(path, json.dumps(tree, ensure_ascii=False))


def _coco_objects(record: Record) -> Iterator[dict[str, Any]]:
    for i, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
        box = [x1, y1, x2 - x1, y2 - y1]
        area = box[2] * box[3] if record.area is None else float(record.area[i])
        one = {"category_id": int(record.labels[i]) + 1, "bbox": box, "area": area}
        one["iscrowd"] = int(record.crowd[i])
        parts = record.segments[i] if record.segments else None
        if parts:
            one["segmentation"] = as_coco(parts, record.size)
        yield one


def _write_voc(
    records: Records, classes: tuple[str, ...], place: _Images, written: Written
) -> None:
    several = _one_name(records)
    for split, found in records.items():
        names = []
        for name, record in progress(found, "images", len(found)):
            image = place.put(record.path, "JPEGImages", f"{split}/{name}" if several else name)
            stem = relative(image.with_suffix(""), place.folder / "JPEGImages")
            names.append(stem)
            tree = _voc_tree(record, image.name, classes)
            ElementTree.indent(tree)
            text = ElementTree.tostring(tree, encoding="unicode")
            write_text_atomic(place.folder / "Annotations" / f"{stem}.xml", text)
            written.lost[MASKS] += sum(bool(one) for one in record.segments or ())
        lists = place.folder / "ImageSets" / "Main" / f"{split}.txt"
        write_text_atomic(lists, "".join(f"{name}\n" for name in names))


def _one_name(records: Records) -> bool:
    """Return whether images of different splits have one name."""
    paths: dict[str, Path] = {}
    named = (
        (os.path.splitext(n)[0], record.path) for found in records.values() for n, record in found
    )
    return any(paths.setdefault(name, path) != path for name, path in named)


def _voc_tree(record: Record, file_name: str, classes: tuple[str, ...]) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = file_name
    size = ElementTree.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*record.size[::-1], 3), strict=True):
        ElementTree.SubElement(size, tag).text = str(value)
    for i, box in enumerate(record.boxes.tolist()):
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = classes[int(record.labels[i])]
        ElementTree.SubElement(one, "difficult").text = str(int(record.crowd[i]))
        sides = ElementTree.SubElement(one, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(sides, tag).text = f"{round(value, 4):.10g}"
    return root


def _write_yolo(
    records: Records, classes: tuple[str, ...], place: _Images, written: Written
) -> None:
    for split, found in records.items():
        for name, record in progress(found, "images", len(found)):
            if record.turned is False:
                raise DataError(
                    f"{record.path}: its EXIF orientation says turned, its boxes are those of the "
                    f"stored pixels, and YOLO text cannot say so; remove the orientation"
                )
            image = place.put(record.path, f"images/{split}", name)
            text = "".join(f"{line}\n" for line in _yolo_lines(record, written.lost))
            write_text_atomic(label_file(image), text)
    tree = {split: f"images/{split}" for split in records}
    names = dict(enumerate(classes))
    text = yaml.safe_dump({**tree, "names": names}, sort_keys=False, allow_unicode=True)
    write_text_atomic(place.folder / "data.yaml", text)


def _yolo_lines(record: Record, lost: Counter[str]) -> Iterator[str]:
    height, width = record.size
    for i, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
        label, parts = int(record.labels[i]), record.segments[i] if record.segments else None
        if record.crowd[i]:
            lost[CROWDS] += 1
        elif parts and len(parts) == 1 and isinstance(parts[0], list):
            shares = [v / (height if k % 2 else width) for k, v in enumerate(parts[0])]
            yield " ".join([str(label), *(f"{share:.8g}" for share in shares)])
        else:
            lost[PARTS] += bool(parts)
            box = (
                (x1 + x2) / 2 / width,
                (y1 + y2) / 2 / height,
                (x2 - x1) / width,
                (y2 - y1) / height,
            )
            yield " ".join([str(label), *(f"{share:.8g}" for share in box)])


_WRITERS: dict[str, Callable[[Records, tuple[str, ...], _Images, Written], None]] = {
    "coco": _write_coco,
    "voc": _write_voc,
    "yolo": _write_yolo,
}
