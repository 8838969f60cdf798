"""Pascal VOC xml in any folder layout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal
from xml.etree import ElementTree

from razorlite.core.errors import DataError
from razorlite.core.files import resolve
from razorlite.core.ranges import Range, Seed, checked
from razorlite.core.registry import register, suggestion
from razorlite.data._voc_files import (
    NamedFiles,
    SplitReader,
    image_files,
    split_lines,
    without_suffix,
)
from razorlite.data._voc_xml import (
    SIDES,
    XmlAnnotation,
    XmlObject,
    one_line,
    read_xml,
    to_number,
)
from razorlite.data.dataset import ClassNames
from razorlite.data.faults import FaultReport, first_line
from razorlite.data.files import holds_any, need_file, need_folder, relative
from razorlite.data.images import IMAGE_SUFFIXES, Decoding
from razorlite.data.records import Objects, Record, RecordDataset, finish
from razorlite.data.splitting import split_names

_IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
_ANNOTATION_FOLDERS = ("Annotations", "annotations")
_SPLIT_FILES = ("ImageSets/*.txt", "ImageSets/Main/*.txt", "train.txt", "val.txt", "test.txt")


@checked
@dataclass(frozen=True)
class SplitPart:
    """A part of all annotated images, by a hash of their names.

    "first" and "rest" of one fraction and seed share no image, and an image stays in its part
    whatever other images there are.

    Attributes:
        fraction: share of the images in the first part, above 0 and below 1; met as closely as
            chance allows.
        part: which part to take.
        seed: another one divides the images differently.
    """

    fraction: Annotated[float, Range(above=0, below=1)]
    part: Literal["first", "rest"]
    seed: Seed = 0


@register()
class VocDataset(RecordDataset):
    """Images with one VOC xml file each: all of a folder, a part of them, or those of a split file.

    Faulty images and boxes are reported, dropped and counted in `faults`; images without objects
    are kept as negatives. Boxes are taken as xmin, ymin, xmax, ymax in pixels, as written. The
    image of an xml file is called like it, or as its <filename> says.

    Args:
        root: folder of the data set.
        split: split file, relative to `root`, for instance ImageSets/Main/train.txt; or several; or
            a part of all xml files (`SplitPart`), for instance {fraction: 0.8, part: first}; all
            xml files by default. A line of a split file is a name, optionally followed by 1, 0 or
            -1 (-1: not in this split).
        classes: names in the order of the labels.
        images: image folder, relative to `root`; by default JPEGImages, images or `root` itself,
            whichever there is.
        annotations: folder of the xml files, relative to `root`; by default Annotations,
            annotations or `root` itself.
        image_suffix: of the image files; those with other suffixes are taken where it is not there.
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
        DataError: a file or folder is missing, the split is empty, or not named although there are
            split files, nothing usable is left, or faults with `strict`.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str | list[str] | SplitPart | None = None,
        classes: ClassNames,
        images: str | None = None,
        annotations: str | None = None,
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
        lines = split_lines(_split_files(base, split))
        xml = NamedFiles(_annotation_folder(base, annotations), [".xml"])
        pictures = image_files(_image_folder(base, images, xml.folder), image_suffix)
        report = FaultReport(", ".join(map(str, lines)) or str(xml.folder), strict)
        reader = _Reader(
            images=pictures,
            annotations=xml,
            labels={one_line(name): label for label, name in enumerate(classes)},
            ignored={one_line(name) for name in ignored_classes or ()},
            difficult=difficult,
            shift=1.0 if one_based else 0.0,
            report=report,
        )
        if lines:
            names = SplitReader(xml, pictures, report).names(lines)
        else:
            names = _part([xml.name(file) for file in xml.files()], split)
        found = [reader.record(name, index) for index, name in enumerate(names)]
        if not lines:
            reader.report_unannotated()
        how = decoding or Decoding()
        records = finish(
            [record for record in found if record is not None],
            report, check_images=check_images, keep_empty=keep_empty, decoding=how,
        )  # fmt: skip
        super().__init__(
            records=records,
            root=pictures.folder,
            classes=tuple(classes),
            report=report,
            masks=False,
            cache=cache,
            decoding=how,
        )


class _Reader:
    """Turns xml files into records, noting what is wrong."""

    def __init__(
        self,
        *,
        images: NamedFiles,
        annotations: NamedFiles,
        labels: dict[str, int],
        ignored: set[str],
        difficult: str,
        shift: float,
        report: FaultReport,
    ) -> None:
        self.images, self.annotations = images, annotations
        self.labels, self.ignored, self.difficult = labels, ignored, difficult
        self.shift, self.report = shift, report
        self._used: dict[Path, str] = {}
        self._by_filename = False

    def record(self, name: str, index: int) -> Record | None:
        """Return the record of one image, None if it has no annotation that can be read."""
        path = self.annotations.find(name)
        if path is None:
            path = self.annotations.folder / f"{name}.xml"
            self.report.add(path, "missing annotation", f"of {name}")
            return None
        annotation = self._read(path)
        return None if annotation is None else self._record(name, index, path, annotation)

    def report_unannotated(self) -> None:
        """Note the images without an xml file, unless some are called otherwise than theirs."""
        for image in () if self._by_filename else self.images.files():
            if self.annotations.find(self.images.name(image)) is None:
                self.report.add(image, "image without an annotation file")

    def _read(self, path: Path) -> XmlAnnotation | None:
        try:
            return read_xml(path)
        except ElementTree.ParseError as error:
            self.report.add(f"{path}:{error.position[0]}", "malformed xml", str(error))
        except (OSError, ValueError) as error:
            self.report.add(path, "malformed xml", first_line(error))
        return None

    def _record(
        self, name: str, index: int, path: Path, annotation: XmlAnnotation
    ) -> Record | None:
        image = self._image(name, annotation.filename)
        if image in self._used:
            self.report.add(path, "duplicate image", f"{image.name}, also of {self._used[image]}")
            return None
        self._used[image] = path.name
        objects = Objects()
        for number, one in enumerate(annotation.objects, start=1):
            self._object(f"object {number}", one, path, objects)
        return objects.record(image, index, annotation.size)

    def _image(self, name: str, filename: str) -> Path:
        """Return the image called like the xml file, else the one that it names."""
        image = self.images.find(name)
        stated = without_suffix(PureWindowsPath(filename).name)
        if image is None and stated and self.annotations.find(stated) is None:
            image = self.images.find(stated)
            self._by_filename = self._by_filename or image is not None
        return image or self.images.folder / f"{name}{self.images.suffixes[0]}"

    def _object(self, where: str, one: XmlObject, path: Path, objects: Objects) -> None:
        if one.name in self.ignored:
            self.report.set_aside("of ignored_classes")
            return
        if one.name not in self.labels:
            hint = suggestion(one.name, self.labels)
            self.report.add(path, "unknown category", f"{where}: {one.name[:100]!r}{hint}")
            return
        if one.difficult is None:
            text = f"{where}: {one.difficult_text[:100]!r}; expected 0 or 1, taken as 0"
            self.report.add(path, "difficult that is neither yes nor no", text)
        if one.difficult and self.difficult == "drop":
            self.report.set_aside("marked as difficult, to be dropped")
            return
        box = self._box(where, one, path)
        if box is not None:
            objects.boxes.append(box)
            objects.names.append(f"{where} of {path.name}")
            objects.labels.append(self.labels[one.name])
            objects.crowd.append(bool(one.difficult) and self.difficult == "ignore")

    def _box(self, where: str, one: XmlObject, path: Path) -> list[float] | None:
        """Return xmin, ymin, xmax, ymax."""
        if one.boxes == 0:
            self.report.add(path, "object without a box", f"{where} ({one.name})")
            return None
        if one.boxes > 1:
            self.report.add(path, "object with several boxes, the first is taken", where)
        sides = [to_number(text) for text in one.sides]
        for side, text, number in zip(SIDES, one.sides, sides, strict=True):
            if not math.isfinite(number):
                got = f"{where} ({one.name}): {side} is {text[:100]!r}"
                self.report.add(path, "box that is not four numbers", got)
                return None
        return [sides[0] - self.shift, sides[1] - self.shift, sides[2], sides[3]]


def _split_files(base: Path, split: str | list[str] | SplitPart | None) -> list[Path]:
    """Return the split files, none if all xml files are meant.

    Raises:
        DataError: a file is missing, none is named although there are some, or `split` is neither
            names nor a part.
    """
    if not isinstance(split, str | list | SplitPart | None):
        raise DataError(f"split is {split!r}; expected names of files or a SplitPart")
    if isinstance(split, str | list):
        names = [split] if isinstance(split, str) else split
        return [need_file(base / name, "split file") for name in names]
    there = sorted({file for pattern in _SPLIT_FILES for file in base.glob(pattern)})
    if split is None and there:
        names = [relative(file, base) for file in there]
        shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise DataError(
            f"{base} has split files; name one or several as split ({shown}), or divide all images "
            f"anew with split: {{fraction: 0.8, part: first}}"
        )
    return []


def _part(names: list[str], split: Any) -> list[str]:
    """Return the names of a part of the images, or all."""
    if not isinstance(split, SplitPart):
        return names
    rest, first = split_names(names, split.fraction, split.seed)
    return [names[index] for index in (first if split.part == "first" else rest)]


def _annotation_folder(base: Path, name: str | None) -> Path:
    return _folder(base, name, "annotation folder", _ANNOTATION_FOLDERS, (".xml",), [base])


def _image_folder(base: Path, name: str | None, annotations: Path) -> Path:
    folders = [annotations, base]
    return _folder(base, name, "image folder", _IMAGE_FOLDERS, IMAGE_SUFFIXES, folders)


def _folder(
    base: Path,
    name: str | None,
    what: str,
    known: Sequence[str],
    suffixes: Sequence[str],
    folders: Sequence[Path],
) -> Path:
    """Return the folder called so, else the first known one, else the first that has such files.

    Raises:
        DataError: there is none.
    """
    if name is not None:
        return need_folder(base / name, what)
    named = [base / one for one in known if (base / one).is_dir()]
    holding = (folder for folder in folders if holds_any(folder, suffixes))
    return named[0] if named else next(holding, None) or need_folder(base / known[0], what)
