"""Boxes, labels and masks land where they should."""

import json

import pytest
import torch
from PIL import Image, ImageColor
from torchvision.transforms.functional import pil_to_tensor

from razorlite.core.errors import DataError
from razorlite.structures import Detections, Target
from razorlite.visual import draw_detections, draw_grid
from razorlite.visual._labels import _overlap, _place
from razorlite.visual._style import class_color
from razorlite.visual.drawing import _legend_entries

CLASSES = ("circle", "square")
BLUE, RUST = (ImageColor.getrgb(class_color(i)) for i in (0, 1))


def found(*boxes, labels=None, scores=None):
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float).reshape(count, 4),
        torch.tensor(scores or [0.9] * count),
        torch.tensor(labels or [0] * count),
    )


@pytest.fixture
def grey():
    return torch.full((3, 60, 80), 128, dtype=torch.uint8)


def test_boxes_are_drawn_enlarged_in_the_colour_of_their_class(grey):
    # 720 / 80: enlarged nine times
    picture = draw_detections(grey, found((20, 20, 60, 50), labels=[1]), classes=CLASSES)
    assert picture.width == 720
    assert picture.getpixel((360, 180)) == RUST  # top edge
    assert picture.getpixel((540, 300)) == RUST  # right edge
    assert picture.getpixel((360, 300)) == (128, 128, 128)


def test_low_scores_are_left_out(grey):
    boxes = found((20, 20, 60, 50), scores=[0.2])
    assert draw_detections(grey, boxes, classes=CLASSES, legend=False).getcolors() == [
        (720 * 540, (128, 128, 128))
    ]
    shown = draw_detections(grey, boxes, classes=CLASSES, score_threshold=0.1)
    assert shown.getpixel((360, 180)) == BLUE


def test_truth_is_dashed_outside_the_detection(grey):
    target = Target(torch.tensor([[20.0, 20.0, 60.0, 50.0]]), torch.tensor([1]))
    picture = draw_detections(grey, found(), target, classes=CLASSES)
    edge = {picture.getpixel((x, 177)) for x in range(200, 500)}
    assert edge == {RUST, (255, 255, 255)}


def test_masks_tint_their_pixels(grey):
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 30:40, 30:40] = True
    boxes = found((20, 20, 60, 50))
    boxes = Detections(boxes.boxes, boxes.scores, boxes.labels, mask)
    picture = draw_detections(grey, boxes, classes=CLASSES)
    inside, outside = picture.getpixel((315, 315)), picture.getpixel((460, 400))
    assert inside[2] > inside[0]
    assert outside == (128, 128, 128)


def test_labels_do_not_cover_each_other():
    placed = []
    for shift in range(6):
        box = (100.0 + shift, 100.0, 300.0 + shift, 300.0)
        placed.append(_place(box, (60, 20), (640, 480), placed))
    pairs = [(a, b) for i, a in enumerate(placed) for b in placed[:i]]
    assert all(_overlap(a, b) == 0 for a, b in pairs)


def test_labels_stay_in_the_picture():
    for box in ((-50.0, -50.0, 20.0, 20.0), (600.0, 470.0, 700.0, 500.0)):
        x1, y1, x2, y2 = _place(box, (60, 20), (640, 480), [])
        assert x1 >= 0
        assert y1 >= 0
        assert x2 < 640
        assert y2 < 480


def test_overlap_by_hand():
    assert _overlap((0, 0, 4, 4), (2, 3, 9, 9)) == 2
    assert _overlap((0, 0, 4, 4), (4, 0, 9, 9)) == 0


def test_large_images_are_shrunk_with_their_boxes():
    image = torch.full((3, 2000, 3200), 128, dtype=torch.uint8)
    picture = draw_detections(image, found((800, 800, 2400, 1600)), classes=CLASSES, legend=False)
    assert picture.size == (1600, 1000)
    assert picture.getpixel((800, 400)) == BLUE  # top edge, halved
    assert picture.getpixel((1200, 600)) == BLUE  # right edge


def test_long_names_leave_the_score_and_the_picture(grey):
    names = ("a name that goes on and on " * 5, "b")
    picture = draw_detections(grey, found((40, 20, 60, 50)), classes=names, legend=False)
    # the label lies on the box's upper edge, and most of the picture's width is left
    row = [picture.getpixel((x, 170)) for x in range(720)]
    assert 100 < row.count(BLUE) < 400
    assert picture.width == draw_detections(grey, found(), classes=names).width


@pytest.mark.parametrize("size", [(1, 1), (400, 1), (1, 400), (2000, 100)])
def test_narrow_images_keep_a_legend_that_can_be_read(size):
    image = torch.full((3, *size), 128, dtype=torch.uint8)
    picture = draw_detections(image, found((0, 0, size[1], size[0])), classes=CLASSES)
    assert picture.width >= 320
    assert draw_grid([picture], width=600).height <= 2 * 600 + 24


def test_many_classes_are_listed_only_where_present():
    classes = [f"class {i}" for i in range(80)]
    target = Target(torch.zeros(1, 4), torch.tensor([40]))
    entries = _legend_entries(found((0, 0, 1, 1), labels=[7]), target, classes, 0.3)
    assert [e[0] for e in entries] == ["class 7", "class 40", "detected, score ≥ 0.3", "truth"]
    entries = _legend_entries(found((0, 0, 1, 1), labels=[7]), target, classes, 0.3, [9, 40])
    assert [text for text, *_ in entries[:3]] == ["class 7", "class 9", "class 40"]
    entries = _legend_entries(found(), None, CLASSES, 0.3)
    assert [e[0] for e in entries] == ["circle", "square", "detected, score ≥ 0.3"]


def test_odd_boxes_do_no_harm(grey):
    boxes = found((50, 50, 20, 20), (-900, -900, 900, 900), (10, 10, 10, 10), labels=[0, 1, 99])
    target = Target(torch.tensor([[5.0, 5.0, 5.0, 5.0]]), torch.tensor([0]))
    draw_detections(grey, boxes, target, classes=CLASSES)
    many = found(*[(i % 70, i % 50, i % 70 + 9, i % 50 + 9) for i in range(1000)])
    draw_detections(grey, many, classes=CLASSES)


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 8, 8), torch.zeros(8, 8, 3, dtype=torch.uint8)], ids=["float", "HWC"]
)
def test_other_images_are_refused(image):
    with pytest.raises(DataError, match=r"must be uint8 of shape \(3, H, W\)"):
        draw_detections(image, found(), classes=CLASSES)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_grids_hold_every_picture(tmp_path, count):
    pictures = [Image.new("RGB", (40, 30 + i), (200, i, 0)) for i in range(count)]
    path = tmp_path / "grid.png"
    captions = [f"picture {i} with a caption far too long for its cell" * 3 for i in range(count)]
    grid = draw_grid(pictures, captions=captions, width=600, path=path)
    colours = {color for _, color in grid.getcolors(1 << 24)}
    assert {(200, i, 0) for i in range(count)} <= colours
    with Image.open(path) as written:
        assert written.size == grid.size
        assert written.width == 600


def test_a_real_image_with_its_truth(test_data, tmp_path):
    folder = test_data / "bccd_voc"
    truth = json.loads((folder / "derived_coco_test.json").read_text())
    first = truth["images"][0]
    image = pil_to_tensor(Image.open(folder / "BCCD" / "JPEGImages" / first["file_name"]))
    boxes = [a["bbox"] for a in truth["annotations"] if a["image_id"] == first["id"]]
    corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes], dtype=torch.float)
    labels = torch.zeros(len(boxes), dtype=torch.long)
    detections = Detections(corners, torch.full((len(boxes),), 0.8), labels)
    path = tmp_path / "blood.png"
    picture = draw_detections(
        image, detections, Target(corners, labels), classes=("cell",), path=path
    )
    assert picture.width == image.shape[2]
    assert path.stat().st_size > 50_000
