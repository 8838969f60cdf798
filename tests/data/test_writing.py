"""Data sets written in another format and read back."""

import os
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from razorlite.core.errors import DataError
from razorlite.data import CocoDataset, ShapesDataset, YoloDataset
from razorlite.data.recognising import recognise
from razorlite.data.writing import CROWDS, PARTS, write
from tests.data.helpers import coco, kinds

FORMATS = ["coco", "voc", "yolo"]


@pytest.fixture
def source(tmp_path):
    boxes = [(1, 6, 4, 20, 10), (1, 30.5, 8.25, 12, 20), (2, 0, 0, 60, 40)]
    return CocoDataset(**coco(tmp_path / "source", boxes, images=3))


def objects(dataset):
    """Class names and boxes by the image's name, sorted."""
    found = {}
    for name, (_, target) in zip(dataset.names, dataset, strict=True):
        labelled = [dataset.classes[i] for i in target.labels.tolist()]
        rows = zip(labelled, target.crowd.tolist(), target.boxes.tolist(), strict=True)
        found[os.path.basename(name)] = sorted(rows)
    return found


def equal(one, other):
    assert one.keys() == other.keys()
    for name, rows in one.items():
        assert [row[:2] for row in rows] == [row[:2] for row in other[name]]
        np.testing.assert_allclose([r[2] for r in rows], [r[2] for r in other[name]], atol=1e-3)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("link", [False, True])
def test_what_is_written_is_recognised_and_equal(source, tmp_path, format, link):
    parts = {"train": source.subset([0, 2]), "val": source.subset([1])}
    written = write(parts, tmp_path / "out", format=format, link=link)
    assert written.images == {"train": 2, "val": 1}
    assert written.objects == {"train": 2, "val": 1}
    layout = recognise(tmp_path / "out")
    assert layout.format == format
    assert list(layout.splits) == ["train", "val"]
    for split, part in parts.items():
        again = layout.open(split)
        assert set(again.classes) == {"cat"} if format == "voc" else again.classes == source.classes
        assert kinds(again) == []
        equal(objects(part), objects(again))
        assert all(os.path.islink(f) == link for f in _files(again))


def _files(dataset):
    return [record.path for record in dataset.records]


def test_crowds_are_kept_where_the_format_can(tmp_path):
    crowd = {"id": 9, "image_id": 1, "category_id": 7, "bbox": [1, 2, 9, 9], "iscrowd": 1}
    source = CocoDataset(**coco(tmp_path / "s", [(1, 6, 4, 20, 10)], images=1, extra=[crowd]))
    for format, crowds in (("coco", 1), ("voc", 1), ("yolo", 0)):
        written = write({"train": source}, tmp_path / format, format=format)
        again = recognise(tmp_path / format).open("train")
        assert int(again[0][1].crowd.sum()) == crowds
        assert written.lost[CROWDS] == 1 - crowds


def test_masks(tmp_path):
    square = [6.0, 4.0, 30.0, 4.0, 30.0, 24.0, 6.0, 24.0]
    extra = [
        {"id": 8, "image_id": 1, "category_id": 7, "segmentation": [square]},
        {
            "id": 9,
            "image_id": 1,
            "category_id": 7,
            "segmentation": [square, [40, 5, 50, 5, 45, 20]],
        },
    ]
    source = CocoDataset(**coco(tmp_path / "s", [], images=1, extra=extra), masks=True)
    write({"train": source}, tmp_path / "coco", format="coco")
    again = recognise(tmp_path / "coco").open("train", masks=True)
    assert torch.equal(again[0][1].masks, source[0][1].masks)
    written = write({"train": source}, tmp_path / "yolo", format="yolo")
    assert written.lost[PARTS] == 1
    [one] = YoloDataset(root=str(tmp_path / "yolo"), masks=True)[0][1].masks
    assert torch.equal(one, source[0][1].masks[0])


def test_yolo_becomes_voc_in_whole_pixels(tmp_path):
    """A YOLO share of a width is a rounded number; programs that read VOC want whole pixels."""
    corners = [359, 1, 483, 97]
    boxes = [(1, *corners[:2], 124, 96)]
    source = CocoDataset(**coco(tmp_path / "source", boxes, images=1, size=(480, 640)))
    write({"train": source}, tmp_path / "yolo", format="yolo")
    write({"train": recognise(tmp_path / "yolo").open("train")}, tmp_path / "voc", format="voc")
    sides = ElementTree.parse(tmp_path / "voc" / "Annotations" / "1.xml").find("object/bndbox")
    assert [side.text for side in sides] == [str(value) for value in corners]


def test_one_image_of_two_splits_is_written_once(source, tmp_path):
    write({"train": source, "val": source.subset([0])}, tmp_path / "out", format="voc")
    assert len(list((tmp_path / "out" / "JPEGImages").iterdir())) == 3


@pytest.mark.parametrize("format", FORMATS)
def test_images_of_two_splits_may_have_one_name(tmp_path, format):
    parts = {
        split: CocoDataset(**coco(tmp_path / split, [(1, 6 + x, 4, 20, 10)], images=1))
        for x, split in enumerate(("train", "val"))
    }
    write(parts, tmp_path / "out", format=format)
    layout = recognise(tmp_path / "out")
    for split, part in parts.items():
        equal(objects(part), objects(layout.open(split)))


def test_images_of_one_name_in_a_split_are_refused(tmp_path):
    source = CocoDataset(**coco(tmp_path, [(1, 6, 4, 20, 10)]))
    os.rename(source.records[1].path, source.records[1].path.with_name("1.png"))
    source.records[1].path = source.records[1].path.with_name("1.png")
    with pytest.raises(DataError, match=r"would both be called images/train/1.png; rename one"):
        write({"train": source}, tmp_path / "out", format="yolo")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_what_was_interrupted(source, tmp_path, monkeypatch, format, there):
    def interrupted(path, text):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    if there:
        out.mkdir()
    monkeypatch.setattr("razorlite.data.writing.write_text_atomic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write({"train": source}, out, format=format, link=True)
    assert out.exists() == there
    assert not there or not list(out.iterdir())
    assert all(record.path.is_file() for record in source.records)


def test_refusals(source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(DataError, match="full is there already"):
        write({"train": source}, tmp_path / "full", format="coco")
    other = CocoDataset(**coco(tmp_path / "o", [(1, 6, 4, 20, 10)]), classes=["dog"])
    with pytest.raises(DataError, match=r"train has objects of \['cat'\], which val lacks"):
        write({"val": other, "train": source}, tmp_path / "out", format="coco")
    with pytest.raises(DataError, match="ShapesDataset has no boxes"):
        write({"train": ShapesDataset(num_images=1)}, tmp_path / "out", format="coco")


def test_stored_orientation_has_no_yolo_text(tmp_path):
    from PIL import Image

    folder = coco(tmp_path / "s", [(1, 6, 4, 20, 10)], images=1)
    path = tmp_path / "s" / "images" / "1.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # lying
    Image.open(path).save(path, exif=exif)
    source = CocoDataset(**folder)
    assert source.records[0].turned is False
    with pytest.raises(DataError, match="EXIF orientation"):
        write({"train": source}, tmp_path / "yolo", format="yolo")
    write({"train": source}, tmp_path / "voc", format="voc")
    equal(objects(source), objects(recognise(tmp_path / "voc").open("train")))


def test_classes_of_other_orders_are_matched_by_name(tmp_path):
    source = CocoDataset(**coco(tmp_path / "s", [(1, 6, 4, 20, 10)]))
    other = CocoDataset(**coco(tmp_path / "o", [(1, 6, 4, 20, 10)]), classes=["cat"])
    write({"train": source, "val": other}, tmp_path / "out", format="yolo")
    again = recognise(tmp_path / "out").open("val")
    assert again.classes == ("dog", "cat")
    equal(objects(other), objects(again))


@pytest.mark.parametrize("format", FORMATS)
def test_splits_of_any_name_come_back(source, tmp_path, format):
    write({n: source.subset([i]) for i, n in enumerate(("north", "south"))}, tmp_path / "out",
          format=format)  # fmt: skip
    layout = recognise(tmp_path / "out")
    assert list(layout.splits) == ["north", "south"]
    equal(objects(source.subset([1])), objects(layout.open("south")))


def test_folders_called_images_below_the_data_sets_own(tmp_path):
    """YOLO's labels lie where they are looked for."""
    made = coco(tmp_path / "s", [(1, 6, 4, 20, 10), (2, 0, 0, 60, 40)])
    for index in (1, 2):
        folder = tmp_path / "s" / "images" / f"part{index}" / "images"
        folder.mkdir(parents=True)
        os.rename(tmp_path / "s" / "images" / f"{index}.jpg", folder / f"{index}.jpg")
    text = (tmp_path / "s" / "annotations.json").read_text()
    for index in (1, 2):
        text = text.replace(f'"{index}.jpg"', f'"part{index}/images/{index}.jpg"')
    (tmp_path / "s" / "annotations.json").write_text(text)
    source = CocoDataset(**made)
    write({"train": source}, tmp_path / "out", format="yolo")
    equal(objects(source), objects(recognise(tmp_path / "out").open("train")))


def test_run_lengths_in_a_list_are_written_together(tmp_path):
    parts = [{"size": [40, 60], "counts": [start, 40, 2360 - start]} for start in (0, 400)]
    extra = [{"id": 8, "image_id": 1, "category_id": 7, "segmentation": parts}]
    source = CocoDataset(**coco(tmp_path / "s", [], images=1, extra=extra), masks=True)
    write({"train": source}, tmp_path / "out", format="coco")
    again = recognise(tmp_path / "out").open("train", masks=True)
    assert int(again[0][1].masks.sum()) == 80
    assert torch.equal(again[0][1].masks, source[0][1].masks)
