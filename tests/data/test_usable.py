"""Splits in which nothing counts are refused, with what was left out and why."""

import pytest

from razorlite.core.errors import DataError
from razorlite.data import (
    CocoDataset,
    ConcatDataset,
    ImageFolderDataset,
    RepeatDataset,
    ShapesDataset,
    VocDataset,
)
from razorlite.data.usable import need_objects, tell_copies
from tests.data.helpers import coco, save_image, voc

GOOD = (1, 5.0, 5.0, 10.0, 10.0)
CROWD = {"id": 9, "image_id": 1, "category_id": 7, "bbox": [1, 1, 5, 5], "iscrowd": 1}


def refusal(dataset):
    with pytest.raises(DataError) as error:
        need_objects(dataset, "data.val")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("data.val: none of its ")
    return message


def test_coco_without_objects_without_known_images_and_with_crowds_alone(tmp_path):
    assert "list no objects" in refusal(CocoDataset(**coco(tmp_path / "none", [])))
    astray = CocoDataset(**coco(tmp_path / "astray", [(5, 5.0, 5.0, 9.0, 9.0)] * 3))
    assert "(3 x annotation of an unknown image; the first fault is" in refusal(astray)
    assert "image_id 5 (annotation 1)" in refusal(astray)
    crowds = CocoDataset(**coco(tmp_path / "crowds", [], extra=[CROWD]))
    assert "(1 x marked as crowd" in refusal(crowds)
    others = CocoDataset(**coco(tmp_path / "others", [GOOD]), classes=["dog"])
    assert "(1 x of a category that classes does not name)" in refusal(others)


def test_voc_with_difficult_or_unknown_objects_alone(tmp_path):
    files = voc(tmp_path / "a", {"a": [("x", 1, 2, 11, 22, 1)]})
    assert "marked as crowd or difficult" in refusal(VocDataset(**files, classes=["x"]))
    dropped = VocDataset(**files, classes=["x"], difficult="drop")
    assert "1 x marked as difficult, to be dropped" in refusal(dropped)
    assert "1 x unknown category" in refusal(VocDataset(**files, classes=["y"]))
    ignored = VocDataset(**files, classes=["y"], ignored_classes=["x"])
    assert "1 x of ignored_classes" in refusal(ignored)


def test_parts_and_joins_are_looked_into(tmp_path):
    files = coco(tmp_path, [GOOD], images=3)
    dataset = CocoDataset(**files)
    need_objects(dataset, "data.train")
    need_objects(dataset.subset([1, 0]), "data.train")
    need_objects(ConcatDataset(datasets=[dataset.subset([1]), dataset]), "data.train")
    assert "none of its 4 images" in refusal(RepeatDataset(dataset=dataset.subset([1, 2]), times=2))
    assert refusal(ConcatDataset(datasets=[dataset.subset([1]), dataset.subset([2])]))
    assert refusal(dataset.subset([]))


def test_drawn_shapes_and_labelled_images_are_usable(tmp_path):
    need_objects(ShapesDataset(num_images=2), "data.train")
    save_image(tmp_path / "a" / "1.jpg")
    need_objects(ImageFolderDataset(root=str(tmp_path)), "data.train")


def test_images_that_cannot_be_read_do_not_count():
    class Broken(ShapesDataset):
        def __getitem__(self, index):
            raise OSError("broken")

    assert refusal(Broken(num_images=2))


def test_copies_of_images_that_are_judged_are_told(tmp_path, caplog):
    dataset = CocoDataset(**coco(tmp_path, [GOOD], images=3))
    tell_copies(dataset, "data.val")
    assert not caplog.records
    tell_copies(RepeatDataset(dataset=dataset, times=2), "data.val")
    (line,) = caplog.records
    assert "data.val has 3 of its 6 images more than once" in line.getMessage()
