"""Pascal VOC xml in any folder layout."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from razorlite.core.errors import DataError
from razorlite.core.registry import register, suggestion
from razorlite.data._records import Objects, Record, RecordDataset, finish
from razorlite.data.faults import FaultReport
from razorlite.data.files import need_file, need_folder, resolve
from razorlite.data.images import Decoding


@register()
class VocDataset(RecordDataset):
    """Images with one VOC xml file each, listed in a split file.

    Faulty images and boxes are reported, dropped and counted in `faults`; images without objects
    are kept as negatives. Boxes are taken as xmin, ymin, xmax, ymax in pixels, as written.

    Args:
        root: folder of the data set.
        split: split file, relative to `root`, for instance ImageSets/Main/train.txt; or several.
            A line is a name, optionally followed by 1, 0 or -1 (-1: not in this split).
        classes: names in the order of the labels.
        images: image folder, relative to `root`.
        annotations: folder of the xml files, relative to `root`.
        image_suffix: of the image files.
        difficult: what to do with objects marked difficult: "ignore" them (marked as crowd: not
            trained on, neither right nor wrong in evaluation), "keep" them like any other, or
            "drop" them.
        ignored_classes: names that may occur and are left out without being reported.
        one_based: subtract 1 from xmin and ymin (VOC counts pixels from 1 and includes the last).
        keep_empty: keep images without objects.
        check_images: read every image's header, to find missing, cut-off and mis-sized files now.
        decoding: how image files are read.
        cache: keep decoded images in memory.
        strict: raise all faults instead of dropping.

    Raises:
        DataError: a file or folder is missing, the split is empty, an xml is malformed, nothing
            usable is left, or faults with `strict`.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str | list[str],
        classes: list[str],
        images: str = "JPEGImages",
        annotations: str = "Annotations",
        image_suffix: str = ".jpg",
        difficult: Literal["ignore", "keep", "drop"] = "ignore",
        ignored_classes: list[str] | None = None,
        one_based: bool = False,
        keep_empty: bool = True,
        check_images: bool = True,
        decoding: Decoding | None = None,
        cache: bool = False,
        strict: bool = False,
    ) -> None:
        base = need_folder(resolve(root), "data folder")
        splits = [split] if isinstance(split, str) else split
        report = FaultReport(", ".join(str(base / name) for name in splits), strict)
        names = _names([need_file(base / name, "split file") for name in splits], report)
        reader = _Reader(
            images=need_folder(base / images, "image folder"),
            annotations=need_folder(base / annotations, "annotation folder"),
            suffix=image_suffix,
            labels={name: label for label, name in enumerate(classes)},
            ignored=set(ignored_classes or ()),
            difficult=difficult,
            shift=1.0 if one_based else 0.0,
            report=report,
        )
        how = decoding or Decoding()
        found = [reader.record(name, index) for index, name in enumerate(names)]
        records = finish(
            [record for record in found if record is not None],
            report, check_images=check_images, keep_empty=keep_empty, decoding=how,
        )  # fmt: skip
        super().__init__(
            records=records,
            root=base / images,
            classes=tuple(classes),
            report=report,
            masks=False,
            cache=cache,
            decoding=how,
        )


def _names(files: Iterable[Path], report: FaultReport) -> list[str]:
    """Return the names that split files list, each once."""
    names: dict[str, None] = {}
    for file in files:
        for words in (line.split() for line in file.read_text(encoding="utf-8").splitlines()):
            if not words or words[1:] == ["-1"]:
                continue
            if words[0] in names:
                report.add(file, "duplicate image", words[0])
            names[words[0]] = None
    if not names:
        raise DataError(f"{report.source} lists no images; wanted one name a line")
    return list(names)


class _Reader:
    """Turns xml files into records, noting what is wrong."""

    def __init__(
        self,
        *,
        images: Path,
        annotations: Path,
        suffix: str,
        labels: dict[str, int],
        ignored: set[str],
        difficult: str,
        shift: float,
        report: FaultReport,
    ) -> None:
        self.images, self.annotations, self.suffix = images, annotations, suffix
        self.labels, self.ignored, self.difficult = labels, ignored, difficult
        self.shift, self.report = shift, report

    def record(self, name: str, index: int) -> Record | None:
        """Return the record of one image, None if it has no annotation file."""
        path = self.annotations / f"{name}.xml"
        image = self.images / f"{name}{self.suffix}"
        try:
            tree = ElementTree.parse(path).getroot()
        except FileNotFoundError:
            self.report.add(path, "missing annotation", f"of {image.name}")
            return None
        except ElementTree.ParseError as error:
            line = error.position[0]
            raise DataError(f"{path}:{line}: malformed xml: {error}") from error
        objects = Objects()
        for element in tree.iter("object"):
            self._object(element, path, objects)
        return objects.record(image, index, _size(tree))

    def _object(self, element: ElementTree.Element, path: Path, objects: Objects) -> None:
        name = (element.findtext("name") or "").strip()
        if name in self.ignored:
            return
        if name not in self.labels:
            self.report.add(path, "unknown category", f"{name!r}{suggestion(name, self.labels)}")
            return
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        if difficult and self.difficult == "drop":
            return
        objects.boxes.append(self._box(element))
        objects.labels.append(self.labels[name])
        objects.crowd.append(difficult and self.difficult == "ignore")

    def _box(self, element: ElementTree.Element) -> list[float]:
        """Return xmin, ymin, xmax, ymax; NaN where they are not numbers, to be dropped later."""
        sides = [_number(element.findtext(f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")]
        return [sides[0] - self.shift, sides[1] - self.shift, sides[2], sides[3]]


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _size(tree: ElementTree.Element) -> tuple[int, int]:
    """Return (height, width), (0, 0) where the file does not say."""
    height, width = (_number(tree.findtext(f"size/{side}")) for side in ("height", "width"))
    return (int(height), int(width)) if height >= 1 and width >= 1 else (0, 0)
