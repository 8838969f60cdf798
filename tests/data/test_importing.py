"""Annotations of tools, by hand."""

import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from razorlite.cli import main
from razorlite.core.errors import DataError
from razorlite.data import CocoDataset
from razorlite.data.importing import import_annotations
from razorlite.data.recognising import recognise

CVAT = """<annotations><version>1.1</version><meta/>
<image id="0" name="sub/a.png" width="40" height="20">
<box label="cat" xtl="1" ytl="2" xbr="5" ybr="8" occluded="0"/>
<box label="cat" xtl="10" ytl="5" xbr="20" ybr="9" rotation="90"/>
<polygon label="dog" points="0,0;4,0;4,4"/>
<mask label="dog" rle="1, 2, 1" left="30" top="10" width="2" height="2"/>
<points label="eye" points="1,1"/>
</image></annotations>"""


@pytest.fixture
def folder(tmp_path):
    """A folder with one image of 40 x 20 pixels."""
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    return tmp_path


def boxes(found):
    names = {one["id"]: one["name"] for one in found.tree["categories"]}
    return [(names[one["category_id"]], one.get("bbox")) for one in found.tree["annotations"]]


def shape(kind, points, label="cat", group=None):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group}


def test_labelme(folder):
    shapes = [
        shape("rectangle", [[9, 8], [1, 2]]),
        shape("circle", [[10, 10], [13, 14]]),  # radius 5
        shape("polygon", [[0, 0], [4, 0], [4, 4]], "dog", 1),
        shape("polygon", [[8, 0], [9, 0], [9, 4]], "dog", 1),
        shape("line", [[0, 0], [4, 4]]),
        shape("mask", [[1, 2], [3, 5]]),  # first and last pixel
    ]
    tree = {"shapes": shapes, "imagePath": "C:\\photos\\a.png", "imageHeight": 20, "imageWidth": 40}
    (folder / "a.json").write_text(json.dumps(tree))
    found = import_annotations(folder)
    assert boxes(found) == [
        ("cat", [1, 2, 8, 6]),
        ("cat", [5, 5, 10, 10]),
        ("dog", None),
        ("cat", [1, 2, 3, 4]),
    ]
    parts = [[0, 0, 4, 0, 4, 4], [8, 0, 9, 0, 9, 4]]
    assert found.tree["annotations"][2]["segmentation"] == parts
    assert found.lost == {"shapes without an area (line)": 1, "outlines of masks": 1}


def test_labelme_to_coco_by_command(folder, module_path, capsys):
    polygon = shape("polygon", [[0, 0], [10, 0], [10, 10], [0, 10]])
    (folder / "a.json").write_text(json.dumps({"shapes": [polygon], "imagePath": "a.png"}))
    out = module_path / "coco"
    words = ["data", "convert", str(folder), "--to", "coco", "--masks", "--out", str(out)]
    assert main(words) == 0
    assert "1 images, 1 objects" in capsys.readouterr().out
    file, images = out / "annotations" / "all.json", out / "images" / "all"
    dataset = CocoDataset(annotation=str(file), images=str(images), masks=True)
    assert dataset[0][1].boxes.tolist() == [[0, 0, 10, 10]]
    assert int(dataset[0][1].masks.sum()) == 100


def test_cvat(folder):
    (folder / "annotations.xml").write_text(CVAT)
    found = import_annotations(folder)
    straight, turned, *_ = [box for _, box in boxes(found)]
    assert straight == [1, 2, 4, 6]
    np.testing.assert_allclose(turned, [13, 2, 4, 10], atol=1e-9)  # 10 x 4 around (15, 7), upright
    mask = found.tree["annotations"][3]["segmentation"]
    # pixels (30, 11) and (31, 10): by columns 30 * 20 + 11 before, then 18 up to the next
    assert mask == {"size": [20, 40], "counts": [611, 1, 18, 1, 169]}
    assert found.lost == {"shapes of the kind points": 1}
    assert import_annotations(folder / "annotations.xml").tree == found.tree


def test_cvat_with_images_of_one_name(folder):
    """The path in the file tells which one is meant."""
    (folder / "annotations.xml").write_text(CVAT)
    for place in ("images/sub", "images/z"):
        (folder / place).mkdir(parents=True)
        Image.new("RGB", (40, 20)).save(folder / place / "a.png")
    found = import_annotations(folder)
    assert found.tree["images"][0]["file_name"] == "images/sub/a.png"
    (folder / "images" / "sub" / "a.png").unlink()
    with pytest.raises(DataError, match=r"sub/a\.png could be a\.png or images/z/a\.png of"):
        import_annotations(folder)


def test_cvat_with_entities_is_not_read(folder):
    entities = '<!DOCTYPE annotations [<!ENTITY a "cell"><!ENTITY b "&a;&a;">]>'
    (folder / "annotations.xml").write_text(entities + CVAT)
    assert import_annotations(folder) is None


def test_cvat_refuses_videos_and_missing_images(folder):
    (folder / "annotations.xml").write_text("<annotations><meta/><track/></annotations>")
    with pytest.raises(DataError, match="tracks of a video"):
        import_annotations(folder)
    (folder / "annotations.xml").write_text(CVAT.replace("a.png", "b.png"))
    with pytest.raises(DataError, match=r"no image b\.png below"):
        import_annotations(folder)


def test_darknet(folder):
    (folder / "obj.names").write_text("cat\ndog\n")
    (folder / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    assert boxes(import_annotations(folder)) == [("dog", [15, 5, 10, 10])]
    (folder / "a.txt").write_text("7 0.5 0.5 0.25 0.5\n")
    with pytest.raises(DataError, match=r"a\.txt: class id 7; obj\.names has 2 names"):
        import_annotations(folder)


@pytest.mark.parametrize("line", ["-1 0.5 0.5 0.25 0.5", "0 0.5 0.5 0.25", "0 a b c d"])
def test_darknet_with_faulty_lines(folder, line):
    (folder / "obj.names").write_text("cat\ndog\n")
    (folder / "a.txt").write_text(f"0 0.5 0.5 0.25 0.5\n{line}\n")
    with pytest.raises(DataError, match=r"a\.txt: "):
        import_annotations(folder)


def test_darknet_keeps_the_order_of_its_classes(folder):
    (folder / "obj.names").write_bytes("\ufeffcat\r\ndog\r\ncow\r\n".encode())
    (folder / "a.txt").write_text("\n2 0.5 0.5 0.25 0.5\n1 0 0 0.5 0 0.5 0.5\n")
    found = import_annotations(folder)
    assert [one["name"] for one in found.tree["categories"]] == ["cat", "dog", "cow"]
    assert boxes(found) == [("cow", [15, 5, 10, 10]), ("dog", None)]
    assert found.tree["annotations"][1]["segmentation"] == [[0, 0, 20, 0, 20, 10]]


def test_masks(folder):
    """Values number objects; a folder names their class."""
    for name in ("images", "masks/cell"):
        (folder / name).mkdir(parents=True)
    (folder / "a.png").rename(folder / "images" / "a.png")
    values = np.zeros((20, 40), dtype=np.uint16)
    values[0, 0], values[5:7, 0] = 1, 700
    Image.fromarray(values).save(folder / "masks" / "cell" / "a.png")
    found = import_annotations(folder)
    counts = [one["segmentation"]["counts"] for one in found.tree["annotations"]]
    assert counts == [[0, 1, 799], [5, 2, 793]]
    assert found.tree["categories"] == [{"id": 1, "name": "cell"}]
    Image.new("L", (4, 4)).save(folder / "masks" / "a.png")
    with pytest.raises(DataError, match=r"is \(4, 4\), its image \(20, 40\)"):
        import_annotations(folder)


@pytest.fixture
def turned(folder):
    """A folder with one image that is stored with 40 x 20 pixels and seen with 20 x 40."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20)).save(folder / "a.jpg", exif=exif)
    (folder / "a.png").unlink()
    return folder


def sizes(found):
    return [(one["height"], one["width"]) for one in found.tree["images"]]


def test_shares_are_of_the_image_as_it_is_seen(turned):
    (turned / "obj.names").write_text("cat\n")
    (turned / "a.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    found = import_annotations(turned)
    assert (sizes(found), boxes(found)) == ([(40, 20)], [("cat", [5, 15, 10, 10])])


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_masks_of_the_image_as_it_is_seen_or_stored(turned, size):
    for name in ("images", "masks"):
        (turned / name).mkdir()
    (turned / "a.jpg").rename(turned / "images" / "a.jpg")
    mask = turned / "masks" / "a.png"
    Image.new("L", size, 1).save(mask)
    assert sizes(import_annotations(turned)) == [size[::-1]]
    mask.write_bytes(mask.read_bytes()[:40])
    with pytest.raises(DataError, match=r"masks.a\.png"):
        import_annotations(turned)


def test_masks_that_belong_to_no_image_or_to_two(folder):
    for name in ("images/x", "images/y", "masks/cell"):
        (folder / name).mkdir(parents=True)
    (folder / "a.png").rename(folder / "images" / "x" / "a.png")
    Image.new("L", (40, 20), 1).save(folder / "masks" / "cell" / "a_mask.png")
    found = import_annotations(folder)
    assert found.lost == {"masks without an image of their name": 1}
    Image.new("RGB", (40, 20)).save(folder / "images" / "y" / "a.png")
    assert len(import_annotations(folder).tree["images"]) == 2
    Image.new("L", (40, 20), 1).save(folder / "masks" / "cell" / "a.png")
    with pytest.raises(DataError, match=r"x/a\.png and .*y/a\.png have masks of one name"):
        import_annotations(folder)


def test_other_folders_are_left_to_the_data_sets(folder):
    assert import_annotations(folder) is None


VOC = "<annotation><size><width>40</width><height>20</height></size><object><name>cat</name>"
VOC += "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
VOC += "</annotation>"


def test_voc_as_roboflow_exports_it(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (40, 20)).save(tmp_path / split / f"{split}.png")
        (tmp_path / split / f"{split}.xml").write_text(VOC)
    layout = recognise(tmp_path)
    assert list(layout.splits) == ["train", "val", "test"]
    assert [len(layout.open(split)) for split in layout.splits] == [1, 1, 1]
    assert layout.open("val").names == ["valid.png"]


def test_coco_as_roboflow_exports_it(tmp_path):
    """Its first category is called like the project, and nothing is of it."""
    tree = {
        "images": [{"id": 0, "file_name": "a.png", "height": 20, "width": 40}],
        "categories": [
            {"id": 0, "name": "cells", "supercategory": "none"},
            {"id": 1, "name": "RBC", "supercategory": "cells"},
        ],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25}
        ],
    }
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (40, 20)).save(tmp_path / split / "a.png")
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(tree))
    layout = recognise(tmp_path)
    assert list(layout.splits) == ["train", "val"]
    assert layout.open("val").classes == ("RBC",)
