"""Drawn shapes: seeded, tight boxes, and the same again from disk."""

import pytest
import torch

from razorlite.core.errors import ConfigError, DataError
from razorlite.data import CocoDataset, ShapesDataset
from razorlite.data.shapes import SHAPES
from tests.data.helpers import write_shapes


def test_images_depend_only_on_seed_and_index():
    one, other = (ShapesDataset(num_images=n, seed=4, masks=True) for n in (3, 8))
    for index in range(3):
        assert torch.equal(one[index][0], other[index][0])
        assert torch.equal(one[index][1].boxes, other[index][1].boxes)
    assert not torch.equal(ShapesDataset(num_images=1, seed=5)[0][0], one[0][0])


def test_boxes_are_tight_around_masks_inside_the_image():
    dataset = ShapesDataset(
        num_images=30, size=(64, 80), classes=SHAPES, objects=(2, 5), masks=True
    )
    seen = set()
    for index in range(30):
        image, target = dataset[index]
        assert image.shape == (3, 64, 80)
        assert len(target) >= 1
        assert target.masks.sum(0).max() <= 1  # visible parts do not overlap
        for box, mask in zip(target.boxes, target.masks, strict=True):
            ys, xs = torch.nonzero(mask, as_tuple=True)
            around = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert box.tolist() == [float(side) for side in around]
        seen |= set(target.labels.tolist())
    assert seen == set(range(5))


def test_areas_are_those_of_the_shapes():
    # a circle fills pi / 4 of its box, a square all, a triangle half
    for name, part in (("circle", 0.785), ("square", 1.0), ("triangle", 0.5)):
        dataset = ShapesDataset(
            num_images=1,
            size=(200, 200),
            classes=(name,),
            objects=(1, 1),
            scale=(0.8, 0.8),
            masks=True,
        )
        target = dataset[0][1]
        sides = target.boxes[0, 2:] - target.boxes[0, :2]
        assert abs(float(target.masks.sum() / sides.prod()) - part) < 0.03


def test_written_shapes_are_read_back(tmp_path):
    arguments = {"num_images": 5, "size": (48, 64), "seed": 2, "classes": ("square", "cross")}
    path = write_shapes(tmp_path, **arguments)
    drawn = ShapesDataset(**arguments, masks=True)
    read = CocoDataset(
        annotation=str(path), images=str(tmp_path / "images"), masks=True, strict=True
    )
    assert read.classes == drawn.classes
    for index in range(5):
        (image, target), (again, copy) = drawn[index], read[index]
        assert torch.equal(image, again)
        assert torch.equal(target.boxes, copy.boxes)
        assert torch.equal(target.labels, copy.labels)
        assert torch.equal(target.masks, copy.masks)
        assert copy.area.tolist() == target.masks.flatten(1).sum(1).tolist()


def test_wrong_arguments():
    with pytest.raises(DataError, match="no shape 'cirle'; did you mean 'circle'"):
        ShapesDataset(classes=("cirle",))
    with pytest.raises(ConfigError, match="num_images wants a number of at least 1, got 0"):
        ShapesDataset(num_images=0)
    with pytest.raises(DataError, match="16 x 16 or larger"):
        ShapesDataset(size=(8, 8))
    with pytest.raises(ConfigError, match="objects wants a value that never falls"):
        ShapesDataset(objects=(3, 1))
    with pytest.raises(IndexError):
        ShapesDataset(num_images=2)[2]
