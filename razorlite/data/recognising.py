"""What format a folder of images is annotated in, and the data sets that it holds."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from razorlite.core.errors import DataError
from razorlite.core.registry import lookup
from razorlite.data._voc_xml import read_xml
from razorlite.data._yolo_files import read_data_file
from razorlite.data.dataset import Dataset
from razorlite.data.files import files_under, is_hidden, near, resolve
from razorlite.data.images import IMAGE_SUFFIXES
from razorlite.data.json_files import each_json_once, read_json

ALL = "all"  # the split of a folder that is not divided
_DEEPEST = 3  # folders below the one that is named
_SPLITS = {
    "trainval": "train",
    "train": "train",
    "valid": "val",
    "val": "val",
    "test": "test",
}
_ORDER = {"train": 0, "val": 1, "test": 2}
_NO_BOXES = re.compile(r"caption|keypoint|panoptic|stuff|image_info", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """A folder's format and what a configuration would say of it.

    Attributes:
        format: "coco", "voc", "yolo" or "folders" (one folder for each class).
        splits: name (train, val, test, all or a file's own) to a data set's block: `type` and
            arguments.
    """

    format: Literal["coco", "voc", "yolo", "folders"]
    splits: dict[str, dict[str, Any]]

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
def recognise(source: str | Path) -> Layout:
    """Tell in which format a folder is annotated.

    Args:
        source: a folder; or a COCO json file or a data.yaml.

    Raises:
        DataError: it does not exist, or is in none of the formats; says what was looked for.
    """
    path = resolve(source)
    if not path.exists():
        raise DataError(f"no data set {path}: there is no such file or folder")
    for look in (_yolo, _coco, _voc, _folders):
        layout = look(path)
        if layout is not None:
            return layout
    if path.is_file():
        raise DataError(
            f"{path} is in no known format; expected a data.yaml (YOLO), a json file with images, "
            f"annotations and categories of boxes (COCO), or a folder"
        )
    raise DataError(
        f"{path} is in no known format; looked for a data.yaml (YOLO), a json file with images, "
        f"annotations and categories (COCO), xml files (VOC), and folders of images named like "
        f"classes"
    )


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
    return named or file.stem == "data" or "names" in file.read_text(errors="replace")


def _coco(path: Path) -> Layout | None:
    files = [path] if path.is_file() else list(_files(path, ".json"))
    blocks = {}
    for file in (one for one in files if one.suffix.lower() == ".json"):
        folder = _image_folder(file, path if path.is_dir() else path.parent)
        if folder is not None:
            block = {"type": "CocoDataset", "annotation": str(file), "images": str(folder)}
            blocks[file] = {**block, **_real_classes(file)}
    names = _split_names(list(blocks))
    return Layout("coco", {name: blocks[file] for file, name in names.items()}) if blocks else None


def _image_folder(annotation: Path, root: Path) -> Path | None:
    """Return where the images of a COCO file are; None if it is no COCO file of boxes."""
    if _NO_BOXES.search(annotation.name):
        return None
    tree = read_json(annotation)
    if not isinstance(tree, dict) or not {"images", "annotations", "categories"} <= tree.keys():
        return None
    entries = [one for one in tree["images"] or () if isinstance(one, dict)]
    first = str(entries[0].get("file_name", "")) if entries else ""
    places = [annotation.parent, root, *_folders_below(root)]
    return next((place for place in places if first and (place / first).is_file()), root)


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
    named = Counter(name for file in files for name in _class_names(file))
    if not named:
        return None
    named_so = (one for one in files[0].parents if one.name.lower() == "annotations")
    above = next((one.parent for one in named_so if one.is_relative_to(path)), None)
    root = above or files[0].parent
    beside = {} if above else _split_folders({file.parent for file in files})
    splits = beside or _listed_splits(root)
    block = {"type": "VocDataset", "root": str(root), "classes": sorted(named)}
    return Layout("voc", {name: {**block, **own} for name, own in splits.items()} or {ALL: block})


def _listed_splits(root: Path) -> dict[str, dict[str, str]]:
    """Return split name -> its list."""
    names = _split_names(_split_lists(root))
    return {name: {"split": file.relative_to(root).as_posix()} for file, name in names.items()}


def _split_folders(folders: set[Path]) -> dict[str, dict[str, str]]:
    """Return split name -> its folder of images and their files, as Roboflow exports them."""
    splits = {_SPLITS.get(folder.name.lower(), ""): folder for folder in folders}
    if len(splits) < len(folders) or "" in splits:
        return {}
    return {name: {"root": str(splits[name])} for name in sorted(splits, key=_ORDER.__getitem__)}


def _split_lists(root: Path) -> list[Path]:
    """Return a VOC set's split files: those of the usual names, else whatever is there."""
    lists = sorted(root.glob("ImageSets/Main/*.txt"))
    usual = [file for file in lists if file.stem in _SPLITS]
    usual = usual or [file for file in root.glob("*.txt") if file.stem in _SPLITS]
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
    below = _subfolders(path)
    splits = {_SPLITS[one.name.lower()]: one for one in below if one.name.lower() in _SPLITS}
    roots = splits if splits and all(map(_has_classes, splits.values())) else {ALL: path}
    if not all(map(_has_classes, roots.values())):
        return None
    block = {"type": "ImageFolderDataset"}
    return Layout("folders", {name: {**block, "root": str(one)} for name, one in roots.items()})


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


def _split_names(files: list[Path]) -> dict[Path, str]:
    """Return a name for each file: that of the split that its path tells, else its own."""
    splits = {file: _split_of(file) for file in files}
    taken = Counter(splits.values())
    names = {file: name if taken[name] == 1 else "" for file, name in splits.items()}
    order = sorted(files, key=lambda file: (_ORDER.get(names[file], len(_ORDER)), str(file)))
    return {file: names[file] or (ALL if len(files) == 1 else file.stem) for file in order}


def _split_of(file: Path) -> str:
    """Return train, val or test from a file's or its folder's name; "" where neither tells."""
    words = [
        *re.split(r"[^a-z]+", file.stem.lower()),
        file.parent.name.lower().rstrip("0123456789"),
    ]
    return next((_SPLITS[word] for word in words if word in _SPLITS), "")
