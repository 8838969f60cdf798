import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close
from torchvision.ops import (
    box_iou,
    complete_box_iou,
    complete_box_iou_loss,
    distance_box_iou,
    distance_box_iou_loss,
    generalized_box_iou,
)

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
    diou = distance_box_iou(first, second[:20]).diagonal()
    assert_close(boxes.paired_diou(first, second[:20]), diou)
    ciou = complete_box_iou(first, second[:20]).diagonal()
    assert_close(boxes.paired_ciou(first, second[:20]), ciou)


@pytest.mark.parametrize(
    ("ours", "torchvisions"),
    [
        (boxes.paired_diou, distance_box_iou_loss),
        (boxes.paired_ciou, complete_box_iou_loss),
    ],
)
def test_gradients_of_ious_equal_torchvision(ours, torchvisions):
    first, second = _random(20).requires_grad_(), _random(20)
    gradient = torch.autograd.grad((1 - ours(first, second)).sum(), first)
    want = torch.autograd.grad(torchvisions(first, second, reduction="sum"), first)
    assert_close(gradient, want, atol=1e-5, rtol=1e-3)


def test_diou_and_ciou_by_hand():
    """Boxes 2 x 2 and 4 x 2 side by side: centres 3 apart, the enclosing box 6 x 2."""
    first, second = tensor([[0.0, 0, 2, 2]]), tensor([[2.0, 0, 6, 2]])
    assert_close(boxes.paired_diou(first, second), tensor([-9 / 40]))
    aspect = 4 / math.pi**2 * (math.atan(2) - math.pi / 4) ** 2
    want = -9 / 40 - aspect**2 / (1 + aspect)
    assert_close(boxes.paired_ciou(first, second), tensor([want]))


@pytest.mark.parametrize("measure", [boxes.paired_giou, boxes.paired_diou, boxes.paired_ciou])
def test_boxes_without_area_have_finite_gradients(measure):
    flat = tensor([[5.0, 5, 5, 5], [1, 1, 1, 9], [0, 0, 3, 3]])
    for other in (flat, flat.flip(0)):
        pred = flat.clone().requires_grad_()
        measure(pred, other).sum().backward()
        assert pred.grad.isfinite().all()


def test_boxes_without_area_give_zero():
    point = tensor([[5.0, 5, 5, 5]])
    assert boxes.pairwise_iou(point, point).item() == 0


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_boxes(shape):
    assert boxes.pairwise_iou(_random(shape[0]), _random(shape[1])).shape == shape


def test_clip_cuts_to_height_and_width():
    cut = boxes.clip(tensor([[-1.0, -2, 50, 60]]), (20, 30))
    assert_close(cut, tensor([[0.0, 0, 30, 20]]))
