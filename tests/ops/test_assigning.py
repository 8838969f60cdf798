import torch
from torch import tensor

from razorlite.ops.anchors import base_anchors, grid_anchors
from razorlite.ops.assigning import (
    BACKGROUND,
    IGNORED,
    assign_by_iou,
    assign_by_region,
    assign_by_statistics,
)
from razorlite.ops.boxes import area, pairwise_iou


def _random(count: int, side: float = 40) -> torch.Tensor:
    corner = torch.rand(count, 2) * 100
    return torch.cat((corner, corner + torch.rand(count, 2) * side + 2), 1)


def test_iou_thresholds_by_hand():
    box = tensor([[0.0, 0, 10, 10]])
    # IoU 1, 0.6, 0.45, 0.1
    anchors = tensor([[0.0, 0, 10, 10], [0, 0, 6, 10], [0, 0, 4.5, 10], [0, 0, 1, 10]])
    assert assign_by_iou(anchors, box).tolist() == [0, 0, IGNORED, BACKGROUND]


def test_best_anchor_is_kept_although_it_overlaps_little():
    box = tensor([[0.0, 0, 10, 10]])
    anchors = tensor([[0.0, 0, 2, 10], [0, 0, 1, 10]])
    assert assign_by_iou(anchors, box).tolist() == [0, BACKGROUND]
    assert assign_by_iou(anchors, box, match_low_quality=False).tolist() == [BACKGROUND] * 2
    assert assign_by_iou(anchors, box, min_pos_iou=0.3).tolist() == [BACKGROUND] * 2


def test_object_that_no_anchor_touches_takes_none():
    far = tensor([[90.0, 90, 99, 99]])
    anchors = tensor([[0.0, 0, 10, 10], [0, 0, 1, 10]])
    assert assign_by_iou(anchors, far).tolist() == [BACKGROUND] * 2


def test_no_objects_make_background():
    assert assign_by_iou(_random(3), torch.zeros(0, 4)).tolist() == [BACKGROUND] * 3


def test_iou_assignment_equals_a_loop():
    anchors, boxes = _random(300), _random(12)
    overlaps = pairwise_iou(boxes, anchors)
    want = []
    for column in overlaps.T:
        best = column.argmax().item()
        want.append(best if column[best] >= 0.5 else BACKGROUND if column[best] < 0.4 else IGNORED)
    for i, row in enumerate(overlaps):
        for j, value in enumerate(row):
            if value == row.max() and value > 0:
                want[j] = i
    assert assign_by_iou(anchors, boxes).tolist() == want


def _region_by_loop(points, strides, ranges, boxes, radius):
    result = []
    for (x, y), stride, (low, high) in zip(points.tolist(), strides, ranges.tolist(), strict=True):
        best, found = float("inf"), BACKGROUND
        for i, box in enumerate(boxes):
            x1, y1, x2, y2 = box.tolist()
            sides = [x - x1, y - y1, x2 - x, y2 - y]
            middle = (x1 + x2) / 2, (y1 + y2) / 2
            near = radius is None or all(
                abs(a - b) < radius * stride for a, b in zip((x, y), middle, strict=True)
            )
            suits = min(sides) > 0 and near and low <= max(sides) <= high
            if suits and area(box) < best:
                best, found = area(box).item(), i
        result.append(found)
    return result


def test_region_assignment_equals_a_loop():
    points = torch.rand(200, 2) * 120
    strides = torch.where(torch.rand(200) < 0.5, 8.0, 16.0)
    ranges = torch.where(strides[:, None] == 8, tensor([-1.0, 20]), tensor([20.0, 1e8]))
    boxes = torch.stack((_random(9, 70), _random(9, 70)))
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[1, 5:] = False
    for radius in (None, 1.5):
        got = assign_by_region(points, strides, ranges, boxes, valid, radius)
        assert got[0].tolist() == _region_by_loop(points, strides, ranges, boxes[0], radius)
        assert got[1].tolist() == _region_by_loop(points, strides, ranges, boxes[1, :5], radius)
        assert (got >= 0).any()


def test_region_assignment_without_objects():
    got = assign_by_region(
        torch.rand(5, 2),
        torch.ones(5),
        tensor([[-1.0, 9]]).expand(5, 2),
        torch.zeros(3, 0, 4),
        torch.zeros(3, 0, dtype=torch.bool),
    )
    assert got.shape == (3, 5)
    assert (got == BACKGROUND).all()


def test_statistics_assignment_equals_a_loop():
    counts = [400, 100, 25]
    grids = [grid_anchors(base_anchors(s, (4.0,), (1.0,)), (160 // s,) * 2, s) for s in (8, 16, 32)]
    anchors, boxes = torch.cat(grids), _random(6, 60)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    overlaps = pairwise_iou(boxes, anchors)
    want, best = [BACKGROUND] * 525, [-1.0] * 525
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        goal, near, start = tensor([(x1 + x2) / 2, (y1 + y2) / 2]), [], 0
        for count in counts:
            distance = (centres[start : start + count] - goal).norm(dim=1)
            near += [start + j for j in distance.argsort()[:9].tolist()]
            start += count
        own = overlaps[i, near]
        for j in near:
            x, y = centres[j].tolist()
            inside = min(x - x1, y - y1, x2 - x, y2 - y) > 0.01
            if inside and overlaps[i, j] >= own.mean() + own.std() and overlaps[i, j] > best[j]:
                want[j], best[j] = i, overlaps[i, j].item()
    got = assign_by_statistics(anchors, counts, boxes, 9)
    assert got.tolist() == want
    assert (got >= 0).sum() > 5


def test_statistics_assignment_without_objects_or_with_few_anchors():
    anchors = _random(4)
    assert assign_by_statistics(anchors, [3, 1], torch.zeros(0, 4)).tolist() == [BACKGROUND] * 4
    assert len(assign_by_statistics(anchors, [3, 1], _random(2))) == 4
