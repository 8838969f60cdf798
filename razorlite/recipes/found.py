"""What a model found beside what is known, in one JSON file; `test` writes, `analyze` reads it."""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from razorlite.core.errors import DataError
from razorlite.core.files import make_folder, write_text_atomic
from razorlite.data import Dataset
from razorlite.data.joining import records_of
from razorlite.data.json_files import read_json
from razorlite.evaluation import MOST, Sample, detection_entries
from razorlite.recipes.classes import output_names
from razorlite.structures import Detections, Target

_log = logging.getLogger("razorlite")
NAME = "detections.json"
_KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Boxes:
    """Detections and objects of images.

    Attributes:
        classes: names of the labels.
        names: of the images, their paths where they have one.
        samples: targets and detections, in the same order.
        max_detections: how many of the best detections of an image and class count.
    """

    classes: Sequence[str]
    names: Sequence[str]
    samples: Sequence[Sample]
    max_detections: int = MOST


@dataclass(frozen=True)
class Probabilities:
    """A classifier's probabilities and the labels of images.

    Attributes:
        classes: names of the labels.
        names: of the images.
        values: (N, C).
        labels: (N,).
    """

    classes: Sequence[str]
    names: Sequence[str]
    values: NDArray[np.float64]
    labels: NDArray[np.int64]


Found = Boxes | Probabilities


def write_found(
    items: Sequence[tuple[Any, Any]],
    dataset: Dataset,
    out: str | Path,
    max_detections: int | None = None,
) -> Path:
    """Write what a model found on a data set to OUT/detections.json.

    Of a detector it is a COCO json with one more list, `detections`, in COCO's format of results,
    and `max_detections`; of a classifier it has `classes`, `labels` and `probabilities`.

    Args:
        items: annotation and prediction of each image.
        dataset: of these images.
        out: a folder.
        max_detections: how many detections of an image and class counted; None if not known.

    Raises:
        DataError: they are neither boxes nor probabilities.
        RunFolderError: the file cannot be written.
    """
    if all(isinstance(t, Target) and isinstance(p, Detections) for t, p in items):
        tree = _boxes_tree(items, dataset)
        tree |= {} if max_detections is None else {"max_detections": max_detections}
    elif all(isinstance(p, torch.Tensor) and p.ndim == 1 for _, p in items):
        labels = [int(label) for label, _ in items]
        values = [[round(v, 6) for v in probabilities.tolist()] for _, probabilities in items]
        count = len(values[0]) if values else 0
        tree = {"classes": output_names(dataset.classes, count), "images": _names(items, dataset)}
        tree |= {"labels": labels, "probabilities": values}
    else:
        raise DataError("detections.json holds boxes or probabilities; the model gives neither")
    path = make_folder(out) / NAME
    write_text_atomic(path, json.dumps({"format": 1, **tree}) + "\n")
    return path


def _boxes_tree(items: Sequence[Sample], dataset: Dataset) -> dict[str, Any]:
    tree: dict[str, list[Any]] = {key: [] for key in (*_KEYS, "detections")}
    count = max((int(p.labels.max()) + 1 for _, p in items if len(p)), default=0)
    classes = output_names(dataset.classes, count)  # a model may tell more apart
    tree["categories"] = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
    names = _names(items, dataset)
    for number, ((target, found), name) in enumerate(zip(items, names, strict=True), start=1):
        height, width = target.original_size
        tree["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        tree["detections"] += [{**one, "image_id": number} for one in detection_entries(found)]
        for i, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
            one: dict[str, Any] = {"id": len(tree["annotations"]) + 1, "image_id": number}
            one |= {"category_id": int(target.labels[i]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            one["area"] = (x2 - x1) * (y2 - y1) if target.area is None else float(target.area[i])
            one["iscrowd"] = 0 if target.crowd is None else int(target.crowd[i])
            tree["annotations"].append(one)
    return tree


def _names(items: Sequence[tuple[Any, Any]], dataset: Dataset) -> list[str]:
    """Return the images' paths, by their ids; loaders may have left some out."""
    records = records_of(dataset)
    if records is not None:
        paths = {record.image_id: str(record.path) for record in records}
        return [paths.get(target.image_id, str(target.image_id)) for target, _ in items]
    if len(items) == len(dataset):
        return list(dataset.keys)
    return [str(getattr(target, "image_id", i)) for i, (target, _) in enumerate(items)]


def read_found(path: str | Path, truth: str | Path | None = None) -> Found:
    """Read what a model found beside what is known.

    Args:
        path: what `test` wrote (the file or its folder); or, with `truth`, COCO's results (a list)
            or a COCO json whose annotations have scores, as `predict` writes.
        truth: a COCO json of the same images.

    Raises:
        DataError: a file cannot be read, or does not hold what it should.
    """
    path = Path(path) / NAME if Path(path).is_dir() else Path(path)
    tree = read_json(path)
    if truth is not None:
        known = read_json(Path(truth))
        results = _results(tree, known, path)
        return _boxes(known, results, Path(truth))
    if isinstance(tree, Mapping) and {"detections", *_KEYS} <= tree.keys():
        return _boxes(tree, tree["detections"], path)
    if isinstance(tree, Mapping) and {"probabilities", "labels", "classes"} <= tree.keys():
        return _probabilities(tree, path)
    raise DataError(
        f"{path} does not say what is true; name the annotations by --truth, or let razorlite test "
        f"--out write one"
    )


def _results(tree: Any, known: Any, path: Path) -> list[Any]:
    """Return results with the image ids of the truth, which a COCO json has by file name."""
    if isinstance(tree, list):
        return tree
    if not isinstance(tree, Mapping) or not {"images", "annotations"} <= tree.keys():
        raise DataError(f"{path}: expected COCO results, a list, or a COCO json with scores")
    try:
        ids = _same_images(tree["images"], known["images"], path)
        categories = {one["name"]: one["id"] for one in known["categories"]}
        called = {one["id"]: one["name"] for one in tree["categories"]}
        return [
            {
                **one,
                "image_id": ids[one["image_id"]],
                "category_id": categories[called[one["category_id"]]],
            }
            for one in tree["annotations"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: {error} of a detection is not in the annotations") from error


def _same_images(found: Sequence[Any], known: Sequence[Any], path: Path) -> dict[Any, Any]:
    """Return id → id in the annotations of images that are in both, by the ends of their paths.

    Raises:
        DataError: an image could be several of the annotations, or several could be one.
    """
    by_name: dict[str, list[Any]] = defaultdict(list)
    for one in known:
        by_name[_parts(one)[-1]].append(one)
    ids: dict[Any, Any] = {}
    names: dict[Any, str] = {}
    for one in found:
        other = _nearest(one, by_name[_parts(one)[-1]], path)
        if other is None:
            continue
        if other["id"] in names:
            raise DataError(
                f"{path}: {names[other['id']]} and {one['file_name']} are both taken for "
                f"{other['file_name']} of the annotations; leave one out, or rename it"
            )
        ids[one["id"]], names[other["id"]] = other["id"], one["file_name"]
    if len(names) < len(known):
        _log.warning(
            "%s has %d of the %d annotated images; objects of the others count as missed",
            path, len(names), len(known),
        )  # fmt: skip
    return ids


def _nearest(one: Any, others: Sequence[Any], path: Path) -> Any:
    """Return the annotated image whose path ends most like that of another one; None of none."""
    alike = [_alike(one, other) for other in others]
    nearest = [other for other, n in zip(others, alike, strict=True) if n == max(alike)]
    if len(nearest) > 1:
        first, second = (other["file_name"] for other in nearest[:2])
        raise DataError(
            f"{path}: {one['file_name']} could be {first} or {second} of the annotations; predict "
            f"on a folder above these, so that paths tell them apart"
        )
    return nearest[0] if nearest else None


def _parts(image: Any) -> list[str]:
    return re.split(r"[\\/]+", str(image["file_name"]))


def _alike(one: Any, other: Any) -> tuple[int, bool]:
    """Return how many parts at the ends of two paths are equal, and if the other has no more."""
    pairs = zip(reversed(_parts(one)), reversed(_parts(other)), strict=False)
    equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return equal, equal == len(_parts(other))


def _boxes(known: Any, results: Sequence[Any], path: Path) -> Boxes:
    try:
        return _boxes_of(known, results)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = error if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise DataError(f"{path} and its detections do not fit COCO's format: {what}") from error


def _boxes_of(known: Any, results: Sequence[Any]) -> Boxes:
    categories = sorted(known["categories"], key=lambda one: one["id"])
    labels = {one["id"]: label for label, one in enumerate(categories)}
    images = {one["id"]: one for one in known["images"]}
    truths: dict[Any, list[Any]] = {key: [] for key in images}
    found: dict[Any, list[Any]] = {key: [] for key in images}
    for one in known["annotations"]:
        truths[one["image_id"]].append(one)
    for one in results:
        found[one["image_id"]].append(one)
    samples = [
        (_target(truths[key], labels, image), _detections(found[key], labels))
        for key, image in images.items()
    ]
    names = [str(image["file_name"]) for image in images.values()]
    most = int(known.get("max_detections", MOST))
    return Boxes([one["name"] for one in categories], names, samples, most)


def _target(entries: Sequence[Any], labels: Mapping[Any, int], image: Any) -> Target:
    size = (int(image["height"]), int(image["width"]))
    areas = [float(one.get("area", one["bbox"][2] * one["bbox"][3])) for one in entries]
    return Target(
        _corners(entries),
        torch.tensor([labels[one["category_id"]] for one in entries], dtype=torch.int64),
        torch.tensor([bool(one.get("iscrowd", 0)) for one in entries], dtype=torch.bool),
        size=size,
        original_size=size,
        area=torch.tensor(areas),
    )


def _detections(entries: Sequence[Any], labels: Mapping[Any, int]) -> Detections:
    best = sorted(entries, key=lambda one: -one["score"])
    found = torch.tensor([labels[one["category_id"]] for one in best], dtype=torch.int64)
    scores = torch.tensor([float(one["score"]) for one in best])
    return Detections(_corners(best), scores, found)


def _corners(entries: Sequence[Any]) -> torch.Tensor:
    sides = torch.tensor([one["bbox"] for one in entries], dtype=torch.float64).view(-1, 4)
    return torch.cat([sides[:, :2], sides[:, :2] + sides[:, 2:]], dim=1).float()


def _probabilities(tree: Mapping[str, Any], path: Path) -> Probabilities:
    classes, labels = list(tree["classes"]), np.array(tree["labels"], dtype=np.int64)
    values = np.array(tree["probabilities"], dtype=float).reshape(len(labels), -1)
    if values.shape[1] != len(classes) or (labels >= len(classes)).any():
        raise DataError(f"{path}: labels and probabilities are not of {len(classes)} classes")
    return Probabilities(classes, list(map(str, tree.get("images", labels))), values, labels)
