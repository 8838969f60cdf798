"""COCO json as programs export it: read right, or named; the rest of the set goes on."""

import gzip
import json
import math

import pytest
import torch

from razorlite.core.errors import DataError
from razorlite.data import CocoDataset, build_loader
from tests.data.helpers import kinds, save_image
from tests.fuzz import Raw, to_json

SIZE = (48, 64)
BOX = [8, 10, 24, 16]
POLYGON = [[8, 10, 32, 10, 32, 26, 8, 26]]
OID = {"$oid": "507f1f77bcf86cd799439011"}


def good():
    """Two images of one cat and one dog each."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in (1, 2)
        ],
        "annotations": [
            {"id": n, "image_id": image, "category_id": label, "bbox": BOX, "area": 384,
             "iscrowd": 0, "segmentation": POLYGON}
            for n, (image, label) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)], start=1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(module_path):
    """A folder of images and `read`, which writes a tree beside them and reads it."""
    for name in (1, 2):
        save_image(module_path / "images" / f"{name}.jpg", SIZE, seed=name)
    save_image(module_path / "images" / "sub" / "3.jpg", SIZE)
    return module_path


@pytest.fixture
def read(folder):
    def reader(data, **kwargs):
        path = folder / "annotations.json"
        path.write_bytes(data if isinstance(data, bytes) else to_json(data))
        return CocoDataset(annotation=str(path), images=str(folder / "images"), **kwargs)

    return reader


def content(dataset):
    """All that the items say."""
    targets = [dataset[index][1] for index in range(len(dataset))]
    return [
        (t.boxes.tolist(), t.labels.tolist(), t.crowd.tolist(), t.area.tolist())
        for t in targets
        if len(t)
    ]


def changed(where, **values):
    """The good tree with one entry changed; where is such as "annotations"."""
    tree = good()
    tree[where][0] = {**tree[where][0], **values}
    return tree


def without(where, key):
    tree = good()
    del tree[where][0][key]
    return tree


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-8"])
def test_any_unicode_encoding(read, encoding):
    tree = good()
    tree["categories"][0]["name"] = "кот"
    dataset = read(json.dumps(tree, ensure_ascii=False).encode(encoding), strict=True)
    assert dataset.classes == ("кот", "dog")


def all_as(value):
    """The good tree with all ids written by a function."""
    tree = good()
    for entries in tree.values():
        for entry in entries:
            for key in ("id", "image_id", "category_id"):
                if key in entry:
                    entry[key] = value(entry[key])
    return tree


def image_ids_as(value):
    tree = good()
    for entry in tree["annotations"]:
        entry["image_id"] = value(entry["image_id"])
    return tree


def flags_as(value):
    tree = good()
    for entry in tree["annotations"]:
        entry["iscrowd"] = value
    return tree


READ_RIGHT = {
    "text ids": all_as(str),
    "ids with a point": all_as(float),
    "MongoDB's numbers": all_as(lambda key: {"$numberInt": str(key)}),
    "MongoDB's ids": all_as(lambda key: {"$oid": f"{key:024x}"}),
    "text in one place alone": image_ids_as(lambda key: f" {key}"),
    "crowd as text": flags_as("0"),
    "crowd as a word": flags_as("False"),
    "crowd as a boolean": flags_as(False),
    "crowd as null": flags_as(None),
    "no crowd": without("annotations", "iscrowd"),
    "no id": without("annotations", "id"),
    "an id twice": changed("annotations", id=2),
    "an odd id": changed("annotations", id=[1]),
    "no box": without("annotations", "bbox"),
    "an empty box": changed("annotations", bbox=[]),
    "a box of text": changed("annotations", bbox=[str(x) for x in BOX]),
    "an area as text": changed("annotations", area="384.0"),
    "no area": without("annotations", "area"),
    "sizes as text": changed("images", width="64", height="48"),
    "sizes with a point": changed("images", width=64.0, height=48.0),
    "no size": without("images", "width"),
    "a size of null": changed("images", width=None, height=None),
    "a size of 0": changed("images", width=0, height=0),
    "a number as a name": changed("categories", name="cat"),
    "backslashes": changed("images", file_name=".\\1.jpg"),
    "a writer's drive": changed("images", file_name="C:\\data\\images\\1.jpg"),
    "a writer's root": changed("images", file_name="/home/someone/images/1.jpg"),
    "from the folder above": changed("images", file_name="images/1.jpg"),
    "over the folder above": changed("images", file_name="../images/1.jpg"),
    "more keys": {**good(), "info": None, "licenses": [OID]},
}


@pytest.mark.parametrize("name", READ_RIGHT)
def test_it_is_read_as_if_well_written(read, name):
    expected = content(read(good(), strict=True))
    dataset = read(READ_RIGHT[name], strict=True)
    assert content(dataset) == expected
    assert len(dataset[0][0]) == 3
    assert dataset.classes == ("cat", "dog")


def test_marked_crowds_in_all_spellings(read):
    for mark in (1, True, "1", "true", " True", 1.0):
        assert content(read(flags_as(mark), strict=True))[0][2] == [True, True]


NAMED = {  # change, kind of the fault, words in its line, objects left
    "image_id of none": (
        changed("annotations", image_id=77),
        "annotation of an unknown image", ["image_id 77", "annotation 1"], 3,
    ),
    "image_id as a list": (
        changed("annotations", image_id=[1]),
        "annotation of an unknown image", ["[1]", "annotation 1"], 3,
    ),
    "a category of none": (
        changed("annotations", category_id=9),
        "unknown category", ["1.jpg", "category_id 9", "annotation 1"], 3,
    ),
    "a null annotation": (
        {**good(), "annotations": [*good()["annotations"], None]},
        "annotation that is no object", ["annotations[4] is None"], 4,
    ),
    "a list as an annotation": (
        {**good(), "annotations": [[1, 2], *good()["annotations"]]},
        "annotation that is no object", ["annotations[0] is [1, 2]"], 4,
    ),
    "a null image": (
        {**good(), "images": [*good()["images"], None]},
        "image entry that lacks id or file_name", ["images[2] is None"], 4,
    ),
    "an image without a name": (
        without("images", "file_name"),
        "image entry that lacks id or file_name", ["images[0] is"], 2,
    ),
    "NUL in a name": (
        changed("images", file_name="1\0.jpg"),
        "image entry that lacks id or file_name", ["images[0] is"], 2,
    ),
    "half a character in a name": (
        changed("images", file_name="\ud800.jpg"),
        "image entry that lacks id or file_name", ["images[0] is"], 2,
    ),
    "a line's end in a name": (
        changed("images", file_name="1\n.jpg"), "missing image", ["1\\n.jpg"], 2,
    ),
    "a name of NaN": (
        changed("images", file_name=math.nan),
        "image entry that lacks id or file_name", ["images[0] is"], 2,
    ),
    "a name too long": (changed("images", file_name="x" * 5000), "unreadable image", [], 2),
    "an image id of two files": (
        {**good(), "images": [*good()["images"], {"id": 1, "file_name": "sub/3.jpg"}]},
        "duplicate image id", ["3.jpg", "1 is another image, too; neither is used"], 2,
    ),
    "an image listed twice": (
        {**good(), "images": [*good()["images"], good()["images"][0]]},
        "duplicate image id", ["1.jpg", "1 again"], 4,
    ),
    "an image file twice": (
        changed("images", file_name="2.jpg"),
        "duplicate image", ["2.jpg", "id 2, but also 1"], 2,
    ),
    "a width of -1": (
        changed("images", width=-1),
        "image size that is none, taken from the file", ["1.jpg", "width -1"], 4,
    ),
    "a width of words": (
        changed("images", width="wide"),
        "image size that is none, taken from the file", ["1.jpg", "'wide'"], 4,
    ),
    "a width beyond all": (
        changed("images", width=Raw("1" + "0" * 400)),
        "image size that is none, taken from the file", ["1.jpg"], 4,
    ),
    "another width": (
        changed("images", width=65), "image size differs from the annotation", ["1.jpg"], 2,
    ),
    "a box of three": (
        {**good(), "annotations": [{**good()["annotations"][0], "bbox": [1, 2, 3]}]},
        "box that is not four numbers, taken from the mask", ["1.jpg", "annotation 1"], 1,
    ),
    "a box of NaN beside a mask": (
        changed("annotations", bbox=[math.nan, 1, 2, 3]),
        "box that is not four numbers, taken from the mask", ["1.jpg", "annotation 1"], 4,
    ),
    "a box of NaN": (
        changed("annotations", bbox=[math.nan, 1, 2, 3], segmentation=None),
        "box of NaN or infinity", ["1.jpg", "annotation 1"], 3,
    ),
    "a box beyond all": (
        changed("annotations", bbox=[Raw("1" + "0" * 5000), 1, 2, 3], segmentation=[]),
        "box of NaN or infinity", ["1.jpg", "annotation 1"], 3,
    ),
    "a box beyond floats of 32 bits": (
        changed("annotations", bbox=[1e300, 1, 2, 3], segmentation=[]),
        "box of NaN or infinity", ["1.jpg", "annotation 1"], 3,
    ),
    "a box of booleans": (
        changed("annotations", bbox=[True, 1, 2, 3], segmentation=[]),
        "box that is not four numbers", ["1.jpg", "annotation 1"], 3,
    ),
    "an area of words": (
        changed("annotations", area="big"),
        "area that is no number from 0, taken from the box", ["1.jpg", "'big'", "annotation 1"], 4,
    ),
    "an area of NaN": (
        changed("annotations", area=math.nan),
        "area that is no number from 0, taken from the box", ["1.jpg", "nan", "annotation 1"], 4,
    ),
    "a crowd of 2": (
        changed("annotations", iscrowd=2),
        "iscrowd that is neither 0 nor 1", ["1.jpg", "annotation 1"], 3,
    ),
    "a crowd of words": (
        changed("annotations", iscrowd="maybe"),
        "iscrowd that is neither 0 nor 1", ["1.jpg", "'maybe'", "annotation 1"], 3,
    ),
    "an object twice": (
        {**good(), "annotations": [*good()["annotations"], good()["annotations"][3]]},
        "duplicate annotation", ["2.jpg", "annotation 4"], 4,
    ),
    "a null category": (
        {**good(), "categories": [None, *good()["categories"]]},
        "category that lacks 'id' or 'name'", ["categories[0] is None"], 4,
    ),
    "a category without a name": (
        {**good(), "categories": [*good()["categories"], {"id": 3, "name": None}]},
        "category that lacks 'id' or 'name'", ["categories[2] is"], 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_it_is_named_and_the_rest_goes_on(read, name):
    tree, kind, words, left = NAMED[name]
    expected = content(read(good()))
    dataset = read(tree)
    assert kinds(dataset) == [kind]
    line = str(dataset.faults[0])
    assert all(word in line for word in words), line
    assert "\n" not in line
    assert sum(len(boxes) for boxes, *_ in content(dataset)) == left
    rows = [row for item in expected for row in zip(*item, strict=True)]
    assert all(row in rows for item in content(dataset) for row in zip(*item, strict=True))
    with pytest.raises(DataError, match=r"1 faults"):
        read(tree, strict=True)


def test_categories_of_one_name_are_one_class(read):
    tree = good()
    tree["categories"] = [{"id": i, "name": n} for i, n in ((2, "dog"), (1, "cat"), (7, "cat"))]
    tree["annotations"][0]["category_id"] = 7
    dataset = read(tree)
    assert dataset.classes == ("cat", "dog")
    assert [labels for _, labels, *_ in content(dataset)] == [[0, 1], [0, 1]]
    assert kinds(dataset) == ["categories of one name, read as one class"]
    assert "ids 1 and 7 are both 'cat'" in dataset.faults[0].what


def test_objects_without_boxes_have_those_of_their_masks(read):
    columns = {"size": [48, 64], "counts": [48 * 3, 96, 48 * 59]}
    tree = changed("annotations", bbox=None, segmentation=columns)
    del tree["annotations"][0]["area"]
    for masks in (False, True):
        target = read(tree, strict=True, masks=masks)[0][1]
        assert target.boxes[0].tolist() == [3, 0, 5, 48]
        assert target.area.tolist() == [96, 384]


NO_COCO = {
    "a list": (b"[]", "no list 'images', but \\[\\]; expected COCO json"),
    "annotations by id": ({**good(), "annotations": {}}, "no list 'annotations', but {}"),
    "no annotations": (
        {"images": [], "categories": []}, "no list 'annotations', but None; expected COCO json",
    ),
    "no images": ({**good(), "images": [], "annotations": []}, "lists no images"),
    "no images but annotations": (
        {**good(), "images": []}, "no usable image is left after 4 x annotation of an unknown",
    ),
    "one id of two names": (
        {**good(), "categories": [{"id": 1, "name": "a"}, {"id": "1", "name": "b"}]},
        "categories 'a' and 'b' have the id 1",
    ),
    "categories without names": (
        {**good(), "categories": [{"id": 1}]}, "each category lacks 'id' or 'name'",
    ),
    "no categories": ({**good(), "categories": []}, "has no categories; expected"),
    "depth": (b"[" * 100_000 + b"]" * 100_000, "lie too deeply inside each other"),
    "another encoding": (
        json.dumps({"a": "é"}, ensure_ascii=False).encode("latin-1"), ":1: not UTF-8",
    ),
    "nothing": (b"", ":1: malformed json"),
    "zeros": (bytes(100), "malformed json"),
    "gzip": (gzip.compress(to_json(good())), r"is packed; .* unpack it \(gunzip\)"),
    "a key twice": (
        to_json(good()).replace(b'"iscrowd": 0', b'"iscrowd": 1, "iscrowd": 0', 1),
        "an object has the key 'iscrowd' twice, with different values",
    ),
    "a list twice": (
        b'{"annotations": [],' + to_json(good())[1:], "has the key 'annotations' twice",
    ),
    "two files in one": (to_json(good()) * 2, ":1: malformed json: Extra data"),
    "lines": (b'{"a": 1}\n{"a": 2}\n', ":2: malformed json: Extra data"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_COCO)
def test_what_is_no_coco_file_is_refused_in_one_line(read, name):
    data, message = NO_COCO[name]
    with pytest.raises(DataError, match=message) as error:
        read(data)
    assert "annotations.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_classes_named_twice_or_not_at_all(read):
    with pytest.raises(DataError, match="classes names one class twice"):
        read(good(), classes=["cat", "cat"])
    with pytest.raises(DataError, match="classes is empty"):
        read(good(), classes=[])


BROKEN_MASKS = {
    "two points": [[8, 10, 32, 26]],
    "the turned image": {"size": [64, 48], "counts": [0, 80, 2992]},
    "an early end": {"size": [48, 64], "counts": [0, 100]},
    "NaN": [[8, 10, math.nan, 10, 32, 26, 8, 26]],
    "far away": [[8, 10, 1e9, 10, 1e9, 26]],
    "cut text": {"size": [48, 64], "counts": "Z<`0P"},
}


@pytest.mark.parametrize("name", BROKEN_MASKS)
def test_broken_masks_are_dropped_and_named_before_training(read, name):
    tree = changed("annotations", segmentation=BROKEN_MASKS[name])
    dataset = read(tree, masks=True)
    (fault,) = dataset.faults
    assert fault.file.endswith("1.jpg")
    assert fault.what.endswith("(annotation 1)")
    (batch,) = build_loader(dataset, batch_size=2, training=False)
    assert [len(target.masks) for target in batch.targets] == [1, 2]
    assert all(int(mask.sum()) == 24 * 16 for target in batch.targets for mask in target.masks)
    assert read(tree, strict=True).faults == []  # masks are not asked for
    with pytest.raises(DataError, match=r"1 faults.*\n.*annotation 1"):
        read(tree, strict=True, masks=True)


def test_masks_follow_the_size_of_the_file(read):
    tree = changed("images", width=-1)
    assert torch.equal(read(tree, masks=True)[0][1].masks, read(good(), masks=True)[0][1].masks)
