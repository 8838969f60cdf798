"""What format a folder of images is annotated in, and the data sets that it holds."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from razorlite.core.errors import DataError
from razorlite.core.files import resolve
from razorlite.core.registry import lookup
from razorlite.data._voc_xml import read_xml
from razorlite.data._yolo_files import read_data_file
from razorlite.data.dataset import Dataset
from razorlite.data.files import files_under, is_hidden, near
from razorlite.data.images import IMAGE_SUFFIXES
from razorlite.data.json_files import each_json_once, read_json
from razorlite.data.known_splits import ALL, ORDER, SPLITS, names_of_splits, split_in, split_of

_DEEPEST = 3  # folders below the one that is named
_LOOKED_FOR = 20  # images of a COCO file, by which their folder is told
_ANNOTATIONS = "annotations"
_NAMES = re.compile(r"^['\"]?names['\"]?\s*:", re.MULTILINE)  # a key of a YOLO set's data.yaml
_NO_BOXES = re.compile(r"caption|keypoint|panoptic|stuff|image_info", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """A folder's format and what a configuration would say of it.

    Attributes:
        format: "coco", "voc", "yolo" or "folders" (one folder for each class).
        splits: name (train, val, test, all or a file's own) to a data set's block: `type` and
            arguments.
        others: further formats in which there are annotations, too.
    """

    format: Literal["coco", "voc", "yolo", "folders"]
    splits: dict[str, dict[str, Any]]
    others: tuple[str, ...] = ()

    @property
    def left_out(self) -> str:
        """What is there in other formats, as a sentence; "" if nothing is."""
        if not self.others:
            return ""
        return (
            f"these are in the format {self.format}; what is there in {' and '.join(self.others)}, "
            f"too, is not looked at: name its folder if that is meant"
        )

    def open(self, split: str, **more: Any) -> Dataset:
        """Return the data set of a split.

        Args:
            split: one of `splits`.
            more: further arguments of the data set's type.

        Raises:
            DataError: there is no such split, or nothing usable in it.
        """
        if split not in self.splits:
            raise DataError(f"no split {split!r}{near(split, self.splits)}")
        block = {**self.splits[split], **more}
        dataset = lookup(block.pop("type"))(**block)
        assert isinstance(dataset, Dataset)
        return dataset


@each_json_once()
def recognise(source: str | Path, format: str | None = None) -> Layout:
    """Tell in which format a folder is annotated.

    Args:
        source: a folder; or a COCO json file or a data.yaml.
        format: the only one that is looked for: "coco", "voc" or "yolo".

    Raises:
        DataError: it does not exist, or is in none of the formats; says what was looked for.
    """
    path = resolve(source)
    if not path.exists():
        raise DataError(f"no data set {path}: there is no such file or folder")
    looks = iter([(name, look) for name, look in _LOOKS.items() if format in (None, name)])
    for _, look in looks:
        layout = look(path)
        if layout is not None:  # those before it were not there
            others = tuple(name for name, other in looks if _is_there(other, path))
            return replace(layout, others=others)
    layout = _folders(path) if format is None else None
    if layout is not None:
        return layout
    if format is not None:
        raise DataError(f"{path} holds no annotations in the format {format}")
    if path.is_file():
        raise DataError(
            f"{path} is in no known format; expected a data.yaml (YOLO), a json file with images, "
            f"annotations and categories of boxes (COCO), or a folder"
        )
    raise DataError(
        f"{path} is in no known format; looked for a data.yaml (YOLO), a json file with images, "
        f"annotations and categories (COCO), xml files (VOC), and a folder of images for each class"
    )


@each_json_once()
def formats_in(source: str | Path) -> list[str]:
    """Return in which formats a folder or a file has annotations of boxes."""
    path = resolve(source)
    return [name for name, look in _LOOKS.items() if path.exists() and _is_there(look, path)]


def _is_there(look: Callable[[Path], Layout | None], path: Path) -> bool:
    try:
        return look(path) is not None
    except DataError:  # it is, but cannot be read
        return True


def _yolo(path: Path) -> Layout | None:
    files = [path] if path.is_file() else sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    for file in files:
        if _is_data_file(file, named=file == path):
            splits = read_data_file(file).splits
            block = {"type": "YoloDataset", "root": str(file)}
            return Layout(
                "yolo", {name: {**block, "split": name} for name in splits} or {ALL: block}
            )
    return None


def _is_data_file(file: Path, named: bool) -> bool:
    """Tell whether a file is a YOLO set's data.yaml; one that the user names is taken as one."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        return False
    return named or file.stem == "data" or bool(_NAMES.search(file.read_text(errors="replace")))


def _coco(path: Path) -> Layout | None:
    files = [path] if path.is_file() else list(_files(path, ".json"))
    blocks = {}
    for file in (one for one in files if one.suffix.lower() == ".json"):
        folder = _image_folder(file, path if path.is_dir() else path.parent, named=file == path)
        if folder is not None:
            block = {"type": "CocoDataset", "annotation": str(file), "images": str(folder)}
            blocks[file] = {**block, **_real_classes(file)}
    names = names_of_splits(list(blocks))
    return Layout("coco", {name: blocks[file] for file, name in names.items()}) if blocks else None


def _image_folder(annotation: Path, root: Path, named: bool) -> Path | None:
    """Return where the images of a COCO file are; None if it is no COCO file of boxes.

    Of folders that hold images of these names the one counts that is called like the file's split.
    What a model has found is none, unless the user names the file.
    """
    if _NO_BOXES.search(annotation.name):
        return None
    tree = read_json(annotation)
    if not isinstance(tree, dict) or not {"images", "annotations", "categories"} <= tree.keys():
        return None
    if not named and _is_found(tree):
        return None
    entries = _dicts(tree["images"])
    names = [str(one["file_name"]) for one in entries if one.get("file_name")][:_LOOKED_FOR]
    places = [annotation.parent, root, *_folders_below(root)]
    found = {one: sum(os.path.isfile(one / name) for name in names) for one in places}
    most = max(found.values())
    holding = [one for one in found if found[one] == most] if most else [root]
    return next((one for one in holding if _is_of(annotation, one, root)), holding[0])


def _is_found(tree: dict[str, Any]) -> bool:
    """Return whether a COCO tree holds what a model has found, as `predict` and `test` write it."""
    return "detections" in tree or any("score" in one for one in _dicts(tree["annotations"])[:1])


def _dicts(entries: Any) -> list[dict[str, Any]]:
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _is_of(annotation: Path, folder: Path, root: Path) -> bool:
    """Return whether a part of a folder's path is called like a COCO file, or its split."""
    parts = folder.relative_to(root).parts
    split = split_of(annotation)
    return annotation.stem in parts or (bool(split) and split in map(split_in, parts))


def _real_classes(annotation: Path) -> dict[str, list[str]]:
    """Name the classes where the first category is but the parent of all others.

    Exports of Roboflow begin with one that is called like the project and has no objects.
    """
    tree = read_json(annotation)
    try:
        first, *rest = sorted(tree["categories"], key=lambda one: one["id"])
        parent = bool(rest) and all(one["supercategory"] == first["name"] for one in rest)
        used = any(one["category_id"] == first["id"] for one in tree["annotations"])
        return {"classes": [str(one["name"]) for one in rest]} if parent and not used else {}
    except (KeyError, TypeError, ValueError):  # the reader says what is wrong with them
        return {}


def _voc(path: Path) -> Layout | None:
    files = [] if path.is_file() else list(_files(path, ".xml"))
    named = {file: names for file in files if (names := _class_names(file))}
    if not named:
        return None
    roots = {_voc_root(file, path) for file in named}
    classes = sorted(set().union(*named.values()))
    splits = _voc_splits(path, roots)
    block = {"type": "VocDataset"}
    return Layout(
        "voc", {name: {**block, **own, "classes": classes} for name, own in splits.items()}
    )


def _voc_root(file: Path, path: Path) -> Path:
    """Return the folder of an xml file's set: that of Annotations, else the file's own."""
    named_so = (one for one in file.parents if one.name.lower() == _ANNOTATIONS)
    return next((one.parent for one in named_so if one.is_relative_to(path)), file.parent)


def _voc_splits(path: Path, roots: set[Path]) -> dict[str, dict[str, str]]:
    """Return split name -> folders and list.

    Raises:
        DataError: several folders have Annotations of their own, and their names tell no splits.
    """
    beside = _split_folders(roots)
    if len(roots) == 1:
        [root] = roots
        listed = {name: {"root": str(root), **own} for name, own in _listed_splits(root).items()}
        return listed or beside or {ALL: {"root": str(root)}}
    if beside:
        return beside
    if any(one.name.lower() == _ANNOTATIONS for root in roots for one in _subfolders(root)):
        named = ", ".join(sorted(one.relative_to(path).as_posix() for one in roots))
        raise DataError(f"{path} holds several VOC sets: {named}; name one of them")
    return {ALL: {"root": str(path), "annotations": ".", "images": "."}}


def _listed_splits(root: Path) -> dict[str, dict[str, str]]:
    """Return split name -> its list."""
    names = names_of_splits(_split_lists(root))
    return {name: {"split": file.relative_to(root).as_posix()} for file, name in names.items()}


def _split_folders(folders: set[Path]) -> dict[str, dict[str, str]]:
    """Return split name -> its folder of images and their files, as Roboflow exports them."""
    splits = {SPLITS.get(folder.name.lower(), ""): folder for folder in folders}
    if len(splits) < len(folders) or "" in splits:
        return {}
    return {name: {"root": str(splits[name])} for name in sorted(splits, key=ORDER.__getitem__)}


def _split_lists(root: Path) -> list[Path]:
    """Return a VOC set's split files: those of the usual names, else whatever is there."""
    lists = sorted(root.glob("ImageSets/Main/*.txt"))
    usual = [file for file in lists if file.stem in SPLITS]
    usual = usual or [file for file in root.glob("*.txt") if file.stem in SPLITS]
    if {"train", "trainval"} <= {file.stem for file in usual}:
        return [file for file in usual if file.stem != "trainval"]
    return usual or lists


def _class_names(file: Path) -> set[str]:
    """Return the names of an xml file's objects, none where it is of another kind."""
    try:
        return {one.name for one in read_xml(file).objects if one.name}
    except (OSError, ValueError, SyntaxError):  # ElementTree.ParseError is a SyntaxError
        return set()


def _folders(path: Path) -> Layout | None:
    """Recognise root/CLASS/… and root/SPLIT/CLASS/…."""
    if path.is_file():
        return None
    roots = _class_splits(path) or {ALL: path}
    if not all(map(_has_classes, roots.values())):
        return None
    block = {"type": "ImageFolderDataset"}
    return Layout("folders", {name: {**block, "root": str(one)} for name, one in roots.items()})


def _class_splits(path: Path) -> dict[str, Path]:
    """Return split name -> its folder: those called like splits, and others that hold classes."""
    known = {one: SPLITS.get(one.name.lower(), "") for one in _subfolders(path)}
    taken = Counter(known.values())
    if set(taken) <= {""}:
        return {}
    return {
        split if taken[split] == 1 and split else folder.name: folder
        for folder, split in known.items()
        if split or _has_classes(folder)
    }


def _has_classes(folder: Path) -> bool:
    return bool(below := _subfolders(folder)) and all(_holds_images(one) for one in below)


def _holds_images(folder: Path) -> bool:
    return any(file.suffix.lower() in IMAGE_SUFFIXES for file in files_under(folder))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and not is_hidden(one.name))


def _folders_below(folder: Path, depth: int = _DEEPEST) -> Iterator[Path]:
    for one in _subfolders(folder) if depth else ():
        yield one
        yield from _folders_below(one, depth - 1)


def _files(folder: Path, suffix: str) -> Iterator[Path]:
    for file in files_under(folder):
        if file.suffix.lower() == suffix and len(file.relative_to(folder).parts) <= _DEEPEST:
            yield file


_LOOKS = {"yolo": _yolo, "coco": _coco, "voc": _voc}
