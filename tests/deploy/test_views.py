"""Test-time augmentation, by hand and on a model that finds bright pixels."""

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.data.preprocess import PIXELS
from razorlite.deploy import AUGMENTED, Predictor, View
from razorlite.deploy.views import merged
from razorlite.structures import Detections


class Bright(nn.Module):
    """Finds the one rectangle of white pixels."""

    def predict(self, batch):
        found = []
        for image, frame in zip(batch.images, batch.frames(), strict=True):
            rows, columns = (image[0] > 128).nonzero(as_tuple=True)
            corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            box = frame.to_original(tensor([[float(side) for side in corners]]))
            found.append(Detections(box, tensor([0.9]), tensor([0])))
        return found


@pytest.mark.parametrize("view", [*AUGMENTED, View(0.5, flip=True), View(2.0)])
def test_boxes_come_back_to_the_image(view):
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    image[:, 8:28, 4:24] = 255  # x 4 to 24, y 8 to 28
    predictor = Predictor(Bright(), classes=["square"], preprocess=PIXELS, views=[view])
    (found,) = predictor(image)
    assert_close(found.detections.boxes, tensor([[4.0, 8, 24, 28]]), atol=1.01, rtol=0)
    assert found.size == (40, 80)


def test_all_views_find_the_object_once():
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    image[:, 8:28, 4:24] = 255
    predictor = Predictor(Bright(), classes=["square"], preprocess=PIXELS, views=AUGMENTED)
    (found,) = predictor(image)
    assert len(found.detections) == 1


def test_merging_by_hand():
    """The second view's 9 x 10 box overlaps by 0.9, its other by 0.5, and one is another class."""
    one = Detections(
        tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]]), tensor([0.8, 0.3]), tensor([0, 0])
    )
    boxes = tensor([[0.0, 0, 9, 10], [50, 50, 55, 60], [0, 0, 10, 10]])
    two = Detections(boxes, tensor([0.9, 0.5, 0.1]), tensor([0, 0, 1]))
    found = merged([one, two])
    assert_close(found.scores, tensor([0.9, 0.5, 0.3]))  # at most as many as the fuller view
    assert_close(found.boxes[0], tensor([0.0, 0, 9, 10]))


def test_flipping_masks():
    mask = torch.zeros(1, 2, 4, dtype=torch.bool)
    mask[0, 0, 0] = True
    found = Detections(tensor([[0.0, 0, 1, 1]]), tensor([0.5]), tensor([0]), mask)
    back = View(flip=True).back(found, 4)
    assert back.boxes.tolist() == [[3, 0, 4, 1]]
    assert back.masks[0, 0].tolist() == [False, False, False, True]


def test_views_are_refused():
    with pytest.raises(ConfigError, match="at least one View"):
        Predictor(Bright(), classes=["square"], preprocess=PIXELS, views=[])
    with pytest.raises(ConfigError, match="scale"):
        View(scale=0.0)
