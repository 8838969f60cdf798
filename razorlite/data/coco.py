"""COCO json: boxes, polygons and crowds."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from razorlite.core.errors import DataError
from razorlite.core.registry import register, suggestion
from razorlite.data._records import Objects, Record, RecordDataset, finish
from razorlite.data.faults import FaultReport
from razorlite.data.files import need_file, need_folder, resolve
from razorlite.data.images import Decoding


@register()
class CocoDataset(RecordDataset):
    """Images annotated in one COCO json file.

    Faulty images and boxes are reported, dropped and counted in `faults`; images without objects
    are kept as negatives.

    Args:
        annotation: the json file; category ids need not be contiguous.
        images: folder of the images.
        classes: names in the order of the labels; all categories by ascending id by default.
            Objects of other categories are left out.
        masks: fill `Target.masks`, (N, H, W) bool, from polygons and run lengths.
        keep_empty: keep images without objects.
        check_images: read every image's header, to find missing, cut-off and mis-sized files now.
        decoding: how image files are read.
        cache: keep decoded images in memory.
        strict: raise all faults instead of dropping.

    Raises:
        DataError: a file or folder is missing, the json is malformed, a class is not in it, nothing
            usable is left, or faults with `strict`.
    """

    def __init__(
        self,
        *,
        annotation: str,
        images: str,
        classes: list[str] | None = None,
        masks: bool = False,
        keep_empty: bool = True,
        check_images: bool = True,
        decoding: Decoding | None = None,
        cache: bool = False,
        strict: bool = False,
    ) -> None:
        path = need_file(resolve(annotation), "annotation file")
        folder = need_folder(resolve(images), "image folder")
        tree = _read(path)
        report = FaultReport(str(path), strict)
        labels, names = _labels(tree["categories"], classes, path)
        reader = _Reader(path, folder, labels, report, masks)
        records = reader.records(tree["images"], tree["annotations"])
        how = decoding or Decoding()
        records = finish(
            records, report, check_images=check_images, keep_empty=keep_empty, decoding=how
        )
        super().__init__(
            records=records,
            root=folder,
            classes=names,
            report=report,
            masks=masks,
            cache=cache,
            decoding=how,
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: malformed json: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a UTF-8 json file: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(tree, dict) or not isinstance(tree.get(key), list):
            raise DataError(
                f"{path}: no list {key!r}; wanted COCO json with images, annotations, categories"
            )
    return tree


def _labels(
    categories: list[dict[str, Any]], classes: list[str] | None, path: Path
) -> tuple[dict[Any, int | None], tuple[str, ...]]:
    """Return category id → label (None: not asked for), and the class names."""
    try:
        known = {c["id"]: str(c["name"]) for c in sorted(categories, key=lambda c: c["id"])}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: a category lacks 'id' or 'name'") from error
    names = tuple(known.values()) if classes is None else tuple(classes)
    for name in names:
        if name not in known.values():
            hint = suggestion(name, known.values())
            raise DataError(
                f"{path}: no category {name!r}{hint or f'; it has {list(known.values())}'}"
            )
    order = {name: label for label, name in enumerate(names)}
    return {key: order.get(name) for key, name in known.items()}, names


class _Reader:
    """Turns the lists of a COCO file into records, noting what is wrong."""

    def __init__(
        self,
        path: Path,
        folder: Path,
        labels: dict[Any, int | None],
        report: FaultReport,
        masks: bool,
    ) -> None:
        self.path, self.folder, self.labels = path, folder, labels
        self.report, self.masks = report, masks
        self._seen: set[Any] = set()

    def records(self, images: list[Any], annotations: list[Any]) -> list[Record]:
        """Return one record for each image, in the file's order."""
        entries = self._images(images)
        objects: dict[Any, Objects] = defaultdict(Objects)
        for entry in annotations:
            self._object(entry, entries, objects)
        return [
            objects[key].record(self.folder / name, key, size, self.masks)
            for key, (name, size) in entries.items()
        ]

    def _images(self, images: list[Any]) -> dict[Any, tuple[str, tuple[int, int]]]:
        entries: dict[Any, tuple[str, tuple[int, int]]] = {}
        for entry in images:
            try:
                key, name = entry["id"], str(entry["file_name"])
                size = (int(entry.get("height") or 0), int(entry.get("width") or 0))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(
                    f"{self.path}: an image entry lacks id, file_name or a size: {entry}"
                ) from error
            if key in entries:
                self.report.add(self.folder / name, "duplicate image id", str(key))
            else:
                entries[key] = (name, size)
        return entries

    def _object(self, entry: Any, images: dict[Any, Any], objects: dict[Any, Objects]) -> None:
        fault = self._fault(entry, images)
        if fault:
            kind, detail = fault
            image = images.get(entry.get("image_id")) if isinstance(entry, dict) else None
            self.report.add(self.folder / image[0] if image else self.path, kind, detail)
            return
        label = self.labels[entry["category_id"]]
        if label is not None:
            self._append(entry, label, objects[entry["image_id"]])

    def _fault(self, entry: Any, images: dict[Any, Any]) -> tuple[str, str] | None:
        if not isinstance(entry, dict):
            return "annotation that is no object", repr(entry)[:60]
        key = entry.get("id")
        if key is not None and key in self._seen:
            return "duplicate annotation id", str(key)
        self._seen.add(key)
        if entry.get("image_id") not in images:
            return "annotation of an unknown image", f"annotation {key}: {entry.get('image_id')}"
        if entry.get("category_id") not in self.labels:
            return "unknown category", f"annotation {key}: category {entry.get('category_id')}"
        if not _is_box(entry.get("bbox")):
            return "box that is not four numbers", f"annotation {key}: {entry.get('bbox')}"
        if self.masks and not entry.get("segmentation"):
            return "object without a mask", f"annotation {key}"
        return None

    def _append(self, entry: dict[str, Any], label: int, objects: Objects) -> None:
        x, y, width, height = (float(value) for value in entry["bbox"])
        objects.boxes.append([x, y, x + width, y + height])
        objects.labels.append(label)
        objects.crowd.append(bool(entry.get("iscrowd", 0)))
        objects.area.append(float(entry.get("area") or width * height))
        objects.segments.append(entry.get("segmentation"))


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )
