"""Annotations of tools as COCO trees: labelme, CVAT's xml, Darknet's text, PNGs of masks."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from razorlite.core.errors import DataError
from razorlite.core.files import resolve
from razorlite.data._tool_files import (
    image_beside,
    image_called,
    images_by_name,
    malformed,
    mask_values,
    size_of,
)
from razorlite.data._tool_shapes import box_of_points, cvat_mask, run_lengths, turned_corners
from razorlite.data._voc_xml import parse_xml
from razorlite.data._yolo_files import Line, read_labels
from razorlite.data.files import files_under, relative
from razorlite.data.images import IMAGE_SUFFIXES
from razorlite.data.json_files import read_json

Tree = dict[str, Any]
TOOLS = ("labelme", "cvat", "darknet", "masks")
_DARKNET = "obj.names"
_BACKGROUND = 0
_ONE_CLASS = "object"
_XML_BYTES = 1 << 28  # of the largest xml file that is read; it is of all images


@dataclass
class Imported:
    """Annotations of one tool as a COCO tree.

    Attributes:
        tool: whose they are.
        tree: images named below the folder, objects with a box or a segmentation.
        lost: what a box or mask cannot say, by kind, and how many.
    """

    tool: str
    tree: Tree = field(default_factory=lambda: {"images": [], "annotations": [], "categories": []})
    lost: Counter[str] = field(default_factory=Counter)
    _ids: dict[str, int] = field(default_factory=dict)

    def image(self, name: str, size: tuple[int, int]) -> None:
        """Add an image of (height, width); the objects that follow are its."""
        number = len(self.tree["images"]) + 1
        entry = {"id": number, "file_name": name, "height": size[0], "width": size[1]}
        self.tree["images"].append(entry)

    def category(self, name: str) -> int:
        """Return the id of a class, a new one where it has none."""
        if name not in self._ids:
            self._ids[name] = len(self._ids) + 1
            self.tree["categories"].append({"id": self._ids[name], "name": name})
        return self._ids[name]

    def add(self, label: str, **shape: Any) -> None:
        """Add an object of the last image, by its `bbox` or `segmentation`."""
        entry = {"id": len(self.tree["annotations"]) + 1, "category_id": self.category(label)}
        entry |= {"image_id": len(self.tree["images"]), "iscrowd": 0, **shape}
        self.tree["annotations"].append(entry)


def import_annotations(source: str | Path, tools: Sequence[str] = TOOLS) -> Imported | None:
    """Return the annotations of a tool's folder or file; None where they are of none known here.

    Args:
        source: a folder with labelme's json files, with CVAT's annotations.xml ("CVAT for images"),
            with Darknet's obj.names and text files, or with `images` and `masks`, PNGs whose
            values are the numbers of objects, 0 for none, in folders named like classes or in none;
            or one of these xml files.
        tools: that are looked for, in this order.

    Raises:
        DataError: a file is malformed, or an image is missing.
    """
    path = resolve(source)
    looks = {"labelme": _labelme, "cvat": _cvat, "darknet": _darknet, "masks": _masks}
    found = (looks[tool](path) for tool in tools)
    return next((one for one in found if one is not None), None)


def tools_in(source: str | Path) -> list[str]:
    """Return those of `TOOLS` whose annotations a folder or file holds, not whether they are right.

    Raises:
        DataError: a json file is malformed.
    """
    path = resolve(source)
    there = {
        "labelme": bool(_labelme_files(path)),
        "cvat": bool(_cvat_files(path)),
        "darknet": (path / _DARKNET).is_file(),
        "masks": _has_masks(path),
    }
    return [tool for tool in TOOLS if there[tool]]


def _labelme_files(folder: Path) -> list[tuple[Path, Tree]]:
    files = (
        [f for f in files_under(folder) if f.suffix.lower() == ".json"] if folder.is_dir() else []
    )
    trees = ((file, read_json(file)) for file in sorted(files))
    return [(f, t) for f, t in trees if isinstance(t, dict) and {"shapes", "imagePath"} <= t.keys()]


def _labelme(folder: Path) -> Imported | None:
    own = _labelme_files(folder)
    if not own:
        return None
    found = Imported("labelme")
    for file, tree in own:
        image = image_beside(file, str(tree["imagePath"]))
        with malformed(file):
            size = int(tree.get("imageHeight") or 0), int(tree.get("imageWidth") or 0)
            found.image(relative(image, folder), size if all(size) else size_of(image))
            for label, shapes in _grouped(tree["shapes"]):
                _add_labelme(found, label, shapes)
    return found


def _grouped(shapes: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield each object's label and its shapes: those of a label and a group are one object."""
    groups: dict[Any, list[Any]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        group = shape.get("group_id")
        groups[shape["label"], number if group is None else f"group {group}"].append(shape)
    for (label, _), members in groups.items():
        yield str(label), members


def _add_labelme(found: Imported, label: str, shapes: Sequence[Any]) -> None:
    kinds = {shape.get("shape_type", "polygon") for shape in shapes}
    points = [_labelme_points(shape) for shape in shapes]
    if kinds == {"polygon"}:
        found.add(label, segmentation=[own.flatten().tolist() for own in points])
    elif kinds == {"circle"} and len(shapes) == 1:
        (x, y), edge = points[0]
        radius = float(np.hypot(*(edge - (x, y))))
        found.add(label, bbox=[x - radius, y - radius, 2 * radius, 2 * radius])
    elif kinds <= {"rectangle", "mask", "polygon"}:
        found.add(label, bbox=box_of_points(np.concatenate(points)))
        if kinds != {"rectangle"}:
            found.lost["outlines of masks"] += 1
    else:
        found.lost[f"shapes without an area ({', '.join(sorted(kinds))})"] += len(shapes)


def _labelme_points(shape: dict[str, Any]) -> np.ndarray:
    """Return (N, 2) points; a mask's second one is its last pixel, whose far corner is meant."""
    points = np.array(shape["points"], dtype=float)
    return points + np.array([[0.0], [1.0]]) if shape.get("shape_type") == "mask" else points


def _cvat_files(source: Path) -> list[tuple[Path, ElementTree.Element]]:
    files = [source] if source.is_file() else sorted(source.glob("*.xml"))
    roots = [(file, _xml(file)) for file in files if file.suffix.lower() == ".xml"]
    return [(file, root) for file, root in roots if root is not None]


def _cvat(source: Path) -> Imported | None:
    own = _cvat_files(source)
    if not own:
        return None
    found = Imported("CVAT")
    for file, root in own:
        if root.find("track") is not None:
            raise DataError(f"{file} holds tracks of a video; export it as CVAT for images 1.1")
        folder = source if source.is_dir() else source.parent
        known = images_by_name(folder)
        for image in root.iter("image"):
            with malformed(file):
                _add_cvat_image(found, image, known, folder)
    return found


def _xml(file: Path) -> ElementTree.Element | None:
    """Return an xml file's root, if it is CVAT's."""
    try:
        root = parse_xml(file, _XML_BYTES)
    except (OSError, ElementTree.ParseError, ValueError):
        return None
    return root if root.tag == "annotations" and root.find("meta") is not None else None


def _add_cvat_image(
    found: Imported, image: ElementTree.Element, known: dict[str, list[Path]], folder: Path
) -> None:
    file = image_called(image.get("name", ""), known, folder)
    size = int(image.get("height", 0)), int(image.get("width", 0))
    found.image(relative(file, folder), size)
    for shape in image:
        _add_cvat(found, shape, size)


def _add_cvat(found: Imported, shape: ElementTree.Element, size: tuple[int, int]) -> None:
    label = shape.get("label", "")
    if shape.tag == "box":
        x1, y1, x2, y2 = (float(shape.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        found.add(
            label, bbox=box_of_points(turned_corners(corners, float(shape.get("rotation", 0))))
        )
    elif shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
        found.add(label, segmentation=[[float(v) for pair in pairs for v in pair]])
    elif shape.tag == "mask":
        found.add(label, segmentation=run_lengths(cvat_mask(shape, size)))
    elif shape.tag != "tag":
        found.lost[f"shapes of the kind {shape.tag}"] += 1


def _darknet(folder: Path) -> Imported | None:
    """Read CVAT's YOLO 1.1: obj.names beside a folder of images and text files."""
    names_file = folder / _DARKNET
    if not names_file.is_file():
        return None
    found = Imported("Darknet")
    with malformed(names_file):
        names = [n.strip() for n in names_file.read_text(encoding="utf-8-sig").splitlines()]
    for name in filter(None, names):
        found.category(name)
    for image in sorted(f for f in files_under(folder) if f.suffix.lower() in IMAGE_SUFFIXES):
        height, width = size_of(image)
        found.image(relative(image, folder), (height, width))
        labels = image.with_suffix(".txt")
        with malformed(labels):
            for line in read_labels(labels) if labels.is_file() else ():
                _add_darknet(found, line, names, (height, width))
    return found


def _add_darknet(
    found: Imported, line: Line | str, names: Sequence[str], size: tuple[int, int]
) -> None:
    if isinstance(line, str):
        raise ValueError(line)
    if line.class_id >= len(names):
        raise ValueError(f"class id {line.class_id}; obj.names has {len(names)} names")
    if line.outline:
        corners = np.array(line.outline).reshape(-1, 2) * size[::-1]
        found.add(names[line.class_id], segmentation=[corners.flatten().tolist()])
    else:
        centre, sides = np.array(line.box).reshape(2, 2) * size[::-1]
        corner = (centre - sides / 2).tolist()
        found.add(names[line.class_id], bbox=[*corner, *sides.tolist()])


def _has_masks(folder: Path) -> bool:
    """Return whether a folder has one of images and one of masks."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _masks(folder: Path) -> Imported | None:
    images, masks = folder / "images", folder / "masks"
    if not _has_masks(folder):
        return None
    found = Imported("mask PNGs")
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for file in files_under(masks):
        if file.suffix.lower() == ".png":
            by_stem[file.stem].append(file)
    pictures = sorted(f for f in files_under(images) if f.suffix.lower() in IMAGE_SUFFIXES)
    _check_stems(pictures, by_stem)
    for image in pictures:
        files = sorted(by_stem.pop(image.stem, ()))
        size = size_of(image, files)
        found.image(relative(image, folder), size)
        for file in files:
            label = _ONE_CLASS if file.parent == masks else file.parent.name
            _add_masks(found, file, label, size)
    if by_stem:
        found.lost["masks without an image of their name"] = sum(map(len, by_stem.values()))
    return found


def _check_stems(images: Sequence[Path], masks: Container[str]) -> None:
    """Refuse images of one name with masks, which could be of either."""
    seen: dict[str, Path] = {}
    for image in images:
        if seen.setdefault(image.stem, image) != image and image.stem in masks:
            raise DataError(
                f"{seen[image.stem]} and {image} have masks of one name; rename one, and its masks"
            )


def _add_masks(found: Imported, file: Path, label: str, size: tuple[int, int]) -> None:
    values = mask_values(file)
    if values.shape != size:
        raise DataError(
            f"{file} is {values.shape}, its image {size}; expected one number a pixel and the same "
            f"height and width"
        )
    for value in np.unique(values):
        if value != _BACKGROUND:
            found.add(label, segmentation=run_lengths(values == value))
