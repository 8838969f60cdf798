"""Dynamic assignment against a plain loop, and dynamic masks against grouped convolutions."""

import torch
import torch.nn.functional as F
from torch import tensor
from torch.testing import assert_close

from razorlite.ops.boxes import pairwise_iou
from razorlite.ops.dynamic_assigning import assign_by_soft_cost, soft_class_cost
from razorlite.ops.dynamic_masks import dynamic_masks, kernel_size


def _scene(seed):
    g = torch.Generator().manual_seed(seed)
    points = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)) * 8
    sides = torch.rand(64, 4, generator=g) * 24
    predicted = torch.cat((points - sides[:, :2], points + sides[:, 2:]), 1)
    corner = torch.rand(5, 2, generator=g) * 30
    boxes = torch.cat((corner, corner + 4 + torch.rand(5, 2, generator=g) * 30), 1)
    logits = torch.randn(64, 3, generator=g)
    return points, torch.full((64,), 8.0), predicted, logits, boxes, tensor([0, 1, 2, 0, 1])


def _loop(points, strides, predicted, logits, boxes, labels, topk=13):
    inside = [any(b[0] < p[0] < b[2] and b[1] < p[1] < b[3] for b in boxes) for p in points]
    rows = [i for i, ok in enumerate(inside) if ok]
    iou, cost = pairwise_iou(predicted, boxes), torch.zeros(len(points), len(boxes))
    for i in rows:
        for j, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            goal = torch.zeros(3)
            goal[label] = iou[i, j]
            entropy = F.binary_cross_entropy_with_logits(logits[i], goal, reduction="none")
            cost[i, j] = (entropy * (goal - logits[i].sigmoid()) ** 2).sum()
            away = (points[i] - (box[:2] + box[2:]) / 2).norm() / strides[i]
            cost[i, j] += 10 ** (away - 3) - 3 * (iou[i, j] + 1e-7).log()
    takers = {i: [] for i in rows}
    for j in range(len(boxes)):
        best = sorted((iou[i, j].item() for i in rows), reverse=True)[:topk]
        for i in sorted(rows, key=lambda i: cost[i, j])[: max(1, int(sum(best)))]:
            takers[i].append(j)
    assigned = torch.full((len(points),), -1)
    for i, js in takers.items():
        if js:
            assigned[i] = js[0] if len(js) == 1 else cost[i].argmin()
    return assigned


def test_assignment_equals_a_loop():
    for seed in range(5):
        scene = _scene(seed)
        assigned, quality = assign_by_soft_cost(*scene)
        assert assigned.tolist() == _loop(*scene).tolist()
        assert assign_by_soft_cost(*scene, topk=2)[0].tolist() == _loop(*scene, topk=2).tolist()
        row = (assigned >= 0).nonzero().squeeze(1)
        assert_close(quality[row], pairwise_iou(scene[2], scene[4])[row, assigned[row]])
        assert (quality[assigned < 0] == 0).all()


def test_class_cost_by_hand():
    # p = 0.5, IoU 0.5: the own class costs ln 2 * 0; the other one ln 2 * 0.5 ** 2
    cost = soft_class_cost(torch.zeros(1, 2), tensor([0]), tensor([[0.5]]))
    assert_close(cost, tensor([[0.25 * 0.6931472]]))


def test_no_objects():
    points, strides, predicted, logits, *_ = _scene(0)
    none = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assigned, quality = assign_by_soft_cost(points, strides, predicted, logits, *none)
    assert (assigned == -1).all()
    assert (quality == 0).all()


def test_dynamic_masks_equal_grouped_convolutions():
    features, priors = torch.randn(8, 6, 5), tensor([[8.0, 16, 8], [24, 0, 32]])
    assert kernel_size(8, 8, 3) == 169
    kernels = torch.randn(2, 169)
    y, x = torch.meshgrid(torch.arange(6) * 8.0, torch.arange(5) * 8.0, indexing="ij")
    for kernel, (px, py, stride), got in zip(
        kernels, priors, dynamic_masks(features, kernels, priors, 8, 8, 3), strict=True
    ):
        maps = torch.cat(
            (((px - x) / (8 * stride))[None], ((py - y) / (8 * stride))[None], features)
        )
        w1, w2, w3, b1, b2, b3 = kernel.split([80, 64, 8, 8, 8, 1])
        maps = F.conv2d(maps[None], w1.reshape(8, 10, 1, 1), b1).relu()
        maps = F.conv2d(maps, w2.reshape(8, 8, 1, 1), b2).relu()
        assert_close(got, F.conv2d(maps, w3.reshape(1, 8, 1, 1), b3)[0, 0], rtol=1e-4, atol=1e-4)


def test_dynamic_masks_of_a_batch_are_those_of_its_images():
    features, kernels, priors = torch.randn(3, 8, 6, 5), torch.randn(3, 4, 169), torch.rand(3, 4, 3)
    some = [dynamic_masks(*one, 8, 8, 3) for one in zip(features, kernels, priors + 8, strict=True)]
    assert_close(dynamic_masks(features, kernels, priors + 8, 8, 8, 3), torch.stack(some))
