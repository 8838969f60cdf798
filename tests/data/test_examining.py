"""Findings about data sets, each from a set made to have it, and counts by hand."""

import shutil

import pytest
from PIL import Image

from razorlite.data.examining import count_objects, examine
from razorlite.data.recognising import recognise
from tests.data.helpers import coco, save_image, voc

CAT = ("cat", 8, 10, 32, 26, 0)


def sets(root, **splits):
    """Write a VOC set of {split: {name: objects}}."""
    for split, images in splits.items():
        voc(root, images, split=f"ImageSets/Main/{split}.txt")
    return root


def told(root):
    """Severity, splits and text of the findings."""
    return [(f.severity, f.splits, f.what) for f in examine(recognise(root))[1]]


def test_nothing_is_found_in_a_good_set(tmp_path):
    sets(tmp_path, train={"a": [CAT]}, val={"b": [CAT]})
    save_image(tmp_path / "JPEGImages" / "b.jpg", seed=7)
    assert told(tmp_path) == []


def test_one_picture_in_two_splits_by_path_or_content(tmp_path):
    sets(tmp_path, train={"a": [CAT], "b": [CAT], "c": [CAT]}, val={"d": [CAT], "e": [CAT]})
    for number, name in enumerate("abcde"):
        save_image(tmp_path / "JPEGImages" / f"{name}.jpg", seed=number)
    shutil.copy(tmp_path / "JPEGImages" / "a.jpg", tmp_path / "JPEGImages" / "d.jpg")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("d\ne\nb\n")
    [(severity, splits, what)] = told(tmp_path)
    assert (severity, splits) == ("error", ("train", "val"))
    assert what.startswith("2 images are in both")


def test_copies_in_one_split(tmp_path):
    sets(tmp_path, train={"a": [CAT], "b": [CAT]})
    shutil.copy(tmp_path / "JPEGImages" / "a.jpg", tmp_path / "JPEGImages" / "b.jpg")
    assert told(tmp_path) == [("warning", ("train",), "1 images are there twice")]


def test_classes_that_train_lacks(tmp_path):
    sets(tmp_path, train={"a": [CAT]}, val={"b": [("dog", *CAT[1:])]})
    save_image(tmp_path / "JPEGImages" / "b.jpg", seed=7)
    assert told(tmp_path) == [
        ("error", ("val", "train"), "1 classes have objects here and none in train"),
        ("warning", ("train",), "1 classes have no object"),
        ("warning", ("val",), "1 classes have no object"),
    ]


def test_what_training_drops_is_counted_by_kind(tmp_path):
    sets(tmp_path, train={"a": [CAT, ("cat", 5, 5, 5, 9, 0), ("cat", 9, 5, 9, 9, 0)]})
    [finding] = examine(recognise(tmp_path))[1]
    assert (finding.severity, finding.what, finding.count) == ("warning", "2 x zero-area box", 2)
    assert "a.jpg" in finding.examples[0]


def test_a_split_that_cannot_be_read(tmp_path):
    sets(tmp_path, train={"a": [CAT]}, val={"b": [CAT]})
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    datasets, findings = examine(recognise(tmp_path))
    assert list(datasets) == ["train"]
    assert (findings[0].severity, findings[0].splits) == ("error", ("val",))


def test_odd_images_and_objects(tmp_path):
    boxes = [(1, x % 50, 3, 9, 9) for x in range(101)] + [(1, 7, 7, 1.5, 9)]
    made = coco(tmp_path, boxes, images=3)
    for number in (2, 3):
        path = tmp_path / "images" / f"{number}.jpg"
        exif = Image.Exif()
        exif[0x0112] = 2
        Image.open(path).save(path, exif=exif)
    assert told(made["annotation"]) == [
        ("warning", ("all",), "1 classes have no object"),
        ("warning", ("all",), "1 images have over 100 objects; raise max_per_img"),
        ("warning", ("all",), "1 objects are thinner than 2 pixels"),
        ("note", ("all",), "2 images have an EXIF orientation"),
        ("note", ("all",), "2 of 3 images have no object"),
        ("note", ("all",), "class ids have gaps; labels are 0, 1, … in the order of the ids"),
    ]


def test_counts_by_hand(tmp_path):
    # areas 24 · 16 = 384 small, 40 · 30 = 1200 medium; the difficult one does not count
    medium = ("dog", 0, 0, 40, 30, 0)
    sets(tmp_path, train={"a": [CAT, medium, ("cat", 1, 1, 9, 9, 1)], "b": []})
    counts = count_objects(recognise(tmp_path).open("train"))
    assert (counts.images, counts.empty, counts.most) == (2, 1, 2)
    assert counts.objects == {"cat": 1, "dog": 1}
    assert counts.areas == {"small": 1, "medium": 1, "large": 0}
    assert counts.to_dict()["sizes"] == [[40, 60, 2]]


@pytest.mark.parametrize("name", ["bccd_voc/BCCD", "coco_permissive"])
def test_real_sets(test_data, name):
    datasets, findings = examine(recognise(test_data / name))
    assert {"train", "val"} <= datasets.keys()
    assert not any("in both" in one.what for one in findings)


def test_images_without_a_label_file_are_noted(tmp_path):
    for seed, name in enumerate("abc"):
        save_image(tmp_path / "images" / f"{name}.jpg", seed=seed)
    (tmp_path / "labels").mkdir()
    for name in "ab":
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    what = "1 x image without a label file, taken as one without objects"
    assert told(tmp_path) == [("note", ("train",), what)]
