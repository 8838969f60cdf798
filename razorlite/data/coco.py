"""COCO json: boxes, polygons and crowds."""

from pathlib import Path
from typing import Any

from razorlite.core.errors import DataError
from razorlite.core.files import resolve
from razorlite.core.registry import register
from razorlite.data._coco_entries import Reader, read_categories
from razorlite.data._values import shown
from razorlite.data.faults import FaultReport
from razorlite.data.files import need_file, need_folder
from razorlite.data.images import Decoding
from razorlite.data.json_files import read_json
from razorlite.data.records import RecordDataset, finish


@register()
class CocoDataset(RecordDataset):
    """Images annotated in one COCO json file.

    Faulty images, boxes and masks are reported, dropped and counted in `faults`; images without
    objects are kept as negatives. Numbers and ids may be written as text; a box that is missing is
    that of the object's mask, a size that is missing that of the file.

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
        labels, names = read_categories(tree["categories"], classes, path, report)
        reader = Reader(path=path, folder=folder, labels=labels, report=report, masks=masks)
        records = reader.records(tree["images"], tree["annotations"])
        how = decoding or Decoding()
        records = finish(
            records,
            report,
            check_images=check_images,
            keep_empty=keep_empty,
            decoding=how,
            masks=masks,
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
    tree: dict[str, Any] = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(tree, dict) or not isinstance(tree.get(key), list):
            came = shown(tree.get(key)) if isinstance(tree, dict) else shown(tree)
            raise DataError(
                f"{path}: no list {key!r}, but {came}; expected COCO json with images, "
                f"annotations, categories"
            )
    return tree
