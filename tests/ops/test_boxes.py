import pytest
import torch
from torch import tensor
from torch.testing import assert_close
from torchvision.ops import box_iou, generalized_box_iou

from razorlite.ops import boxes


def _random(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 50
    return torch.cat((corner, corner + torch.rand(count, 2) * 30 + 0.1), 1)


def test_giou_of_touching_squares():
    # intersection 0, union 2, enclosing box 2 x 2 = 4: giou = 0 - (4 - 2) / 4
    first, second = tensor([[0.0, 0, 1, 1]]), tensor([[1.0, 1, 2, 2]])
    assert_close(boxes.paired_giou(first, second), tensor([-0.5]))


def test_iou_of_half_overlapping_boxes():
    # intersection 1 x 2, union 4 + 4 - 2
    first, second = tensor([[0.0, 0, 2, 2]]), tensor([[1.0, 0, 3, 2]])
    assert_close(boxes.paired_iou(first, second), tensor([1 / 3]))


def test_ious_equal_torchvision():
    first, second = _random(20), _random(30)
    assert_close(boxes.pairwise_iou(first, second), box_iou(first, second))
    assert_close(boxes.paired_iou(first, second[:20]), box_iou(first, second[:20]).diagonal())
    giou = generalized_box_iou(first, second[:20]).diagonal()
    assert_close(boxes.paired_giou(first, second[:20]), giou)


def test_boxes_without_area_give_zero():
    point = tensor([[5.0, 5, 5, 5]])
    assert boxes.pairwise_iou(point, point).item() == 0


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_boxes(shape):
    assert boxes.pairwise_iou(_random(shape[0]), _random(shape[1])).shape == shape


def test_clip_cuts_to_height_and_width():
    cut = boxes.clip(tensor([[-1.0, -2, 50, 60]]), (20, 30))
    assert_close(cut, tensor([[0.0, 0, 30, 20]]))
