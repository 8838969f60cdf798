"""Mutated COCO files: no crash, no hang, no gulp of memory, and nothing silently wrong."""

import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from razorlite.core.errors import DataError
from razorlite.data import CocoDataset
from tests.data.helpers import save_image
from tests.fuzz import guarded, mutants_of_bytes, mutants_of_tree, to_json

SIZE = (24, 32)
TREES, BYTES = 160, 60


def coded(x1, y1, x2, y2):
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[y1:y2, x1:x2] = 1
    return coco_mask.encode(mask)["counts"].decode()


def good():
    """Three images with polygons, both kinds of run lengths and a crowd."""
    column = [24 * 3, 24 * 5, 24 * 24]
    segments = [
        [[2, 3, 12, 3, 12, 13, 2, 13]],
        [[1, 1, 6, 1, 6, 6, 1, 6], [10, 10, 20, 10, 20, 20, 10, 20]],
        {"size": list(SIZE), "counts": coded(4, 5, 14, 11)},
        {"size": list(SIZE), "counts": column},
        [[5, 5, 15, 5, 15, 15]],
    ]
    boxes = [[2, 3, 10, 10], [1, 1, 19, 19], [4, 5, 10, 6], [3, 0, 5, 24], [5, 5, 10, 10]]
    owners = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]
    return {
        "info": {"year": 2020},
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": 24, "width": 32} for i in (1, 2, 3)
        ],
        "annotations": [
            {"id": 10 + n, "image_id": image, "category_id": category, "bbox": box,
             "area": float(box[2] * box[3]), "iscrowd": int(n == 3), "segmentation": segment}
            for n, ((image, category), box, segment) in enumerate(
                zip(owners, boxes, segments, strict=True)
            )
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(module_path):
    for name in (1, 2, 3):
        save_image(module_path / "images" / f"{name}.png", SIZE, seed=name)
    return module_path


def read(folder, data, masks):
    """Read a file and each of its items; return (data set, objects by file), or the refusal."""
    path = folder / "annotations.json"
    path.write_bytes(data)
    with guarded(seconds=5, megabytes=1024), warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        result = attempt(annotation=str(path), images=str(folder / "images"), masks=masks)
    if isinstance(result, DataError):
        assert str(path) in str(result)
        assert "\n" not in str(result)
    return result


def attempt(**settings):
    try:
        dataset = CocoDataset(**settings)
    except DataError as error:
        return error
    return dataset, {dataset.keys[i]: objects(dataset, i) for i in range(len(dataset))}


def objects(dataset, index):
    """What an item shows: a set of plain tuples."""
    image, target = dataset[index]
    assert image.shape[1:] == SIZE
    assert (len(target.boxes), len(target.labels)) == (len(target), len(target))
    found = set()
    for place in range(len(target)):
        box = tuple(round(x, 2) for x in target.boxes[place].tolist())
        mask = None if target.masks is None else int(target.masks[place].sum())
        name = dataset.classes[int(target.labels[place])]
        found.add((name, box, bool(target.crowd[place]), mask))
    return found


def check(dataset, found, expected, mutant):
    """Check that what differs from the good file is what was changed in it, and named or meant.

    Args:
        dataset: read from the changed file.
        found, expected: objects by file, of the changed and of the good one.
        mutant: the change.
    """
    now, before = (set().union(*objects.values()) for objects in (found, expected))
    if found == expected:
        return
    lines = "\n".join(map(str, dataset.faults))
    if not lines:  # a well-written file of another meaning
        own = plainly(mutant.tree)
        assert own == {key.rsplit("/", 1)[1]: value for key, value in found.items()}, mutant.name
        return
    assert before - now <= touched(mutant.path, expected), mutant.name
    assert len(now - before) <= ("clipped" in lines), mutant.name
    if mutant.path[0] == "annotations" and len(mutant.path) > 1:
        place, entry = mutant.path[1], mutant.tree["annotations"][mutant.path[1]]
        own = entry.get("id") if isinstance(entry, dict) else None
        names = (f"annotation {10 + place}", f"annotation {own}", f"annotations[{place}")
        assert any(name in lines for name in names), mutant.name


def touched(path, expected):
    """Return the good file's objects that a change at a place may cost."""
    everything = set().union(*expected.values())
    if len(path) < 2 or path[0] not in ("images", "annotations", "categories"):
        return everything
    if path[0] == "images":
        return next(found for key, found in expected.items() if key.endswith(f"{path[1] + 1}.png"))
    if path[0] == "categories":
        return {found for found in everything if found[0] == ("cat", "dog")[path[1]]}
    x, y, width, height = good()["annotations"][path[1]]["bbox"]
    return {found for found in everything if found[1] == (x, y, x + width, y + height)}


def plainly(tree):
    """Read a well-written COCO tree in the shortest way; None where it is not well written."""
    try:
        names = {c["id"]: str(c["name"]) for c in tree["categories"]}
        files = {i["id"]: i["file_name"] for i in tree["images"]}
        found = {name: set() for name in files.values()}
        for entry in tree["annotations"]:
            x, y, width, height = map(float, entry["bbox"])
            box = np.clip([x, y, x + width, y + height], 0, [32, 24, 32, 24]).tolist()
            crowd = str(entry.get("iscrowd") or 0).strip() not in ("", "0")
            found[files[entry["image_id"]]].add(
                (names[entry["category_id"]], tuple(round(v, 2) for v in box), crowd,
                 area_of(entry["segmentation"]))
            )  # fmt: skip
        return found
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def area_of(segment):
    if isinstance(segment, dict):
        if isinstance(segment["counts"], list):
            segment = coco_mask.frPyObjects(segment, *SIZE)
        return int(coco_mask.area(segment))
    return int(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(segment, *SIZE))))


@pytest.mark.parametrize("part", range(4))
def test_mutated_trees(folder, part, caplog):
    caplog.set_level("ERROR", logger="razorlite")
    _, expected = read(folder, to_json(good()), masks=True)
    refused = 0
    for mutant in mutants_of_tree(good(), TREES // 4, seed=part):
        result = read(folder, mutant.data, masks=True)
        refused += isinstance(result, DataError)
        if not isinstance(result, DataError):
            check(*result, expected, mutant)
        read(folder, mutant.data, masks=False)
    assert refused < TREES // 8


def test_mutated_bytes(folder, caplog):
    caplog.set_level("ERROR", logger="razorlite")
    for mutant in mutants_of_bytes(to_json(good()), BYTES, seed=0):
        read(folder, mutant.data, masks=True)
