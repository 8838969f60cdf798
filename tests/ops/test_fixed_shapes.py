"""Suppression in fixed shapes: what it keeps, and what its empty slots cost."""

import torch
from torch import tensor
from torch.testing import assert_close
from torchvision.ops import batched_nms, nms

from razorlite.ops import fixed_shapes
from razorlite.ops.fixed_shapes import best_rows, filled_slots, keep_best, rows_of


def slots(full, count, seed=0):
    """Boxes of one image of 100 pixels in many slots, of which the first few have a score."""
    generator = torch.Generator().manual_seed(seed)
    corner = 60 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat((corner, corner + 40 * torch.rand(count, 2, generator=generator)), 1)
    scores = torch.rand(count, generator=generator) * (torch.arange(count) < full)
    return boxes, scores, torch.randint(3, (count,), generator=generator)


def test_what_is_kept_is_what_survives_among_the_full_slots():
    boxes, scores, labels = slots(full=40, count=200)
    kept = batched_nms(boxes[:40], scores[:40], labels[:40], 0.5)
    found = keep_best(boxes[None], scores[None], labels[None], iou_threshold=0.5, limit=60)
    assert int((found[1] > 0).sum()) == len(kept) < 40
    for ours, expected in zip(found, (boxes, scores, labels), strict=True):
        assert_close(ours[0, : len(kept)], expected[kept])


def test_empty_slots_are_one_box_so_that_they_are_not_compared_pair_by_pair(monkeypatch):
    seen = []

    def watched(boxes, scores, threshold):
        seen.append(boxes)
        return nms(boxes, scores, threshold)

    monkeypatch.setattr(fixed_shapes, "nms", watched)
    pairs = [torch.stack(two) for two in zip(slots(5, 50), slots(0, 50, seed=1), strict=True)]
    _, scores, _ = keep_best(*pairs, iou_threshold=0.5, limit=10)
    assert len(seen[0].unique(dim=0)) == 5 + 1
    assert (scores > 0).sum(1).tolist()[1] == 0


def test_the_best_of_two_that_overlap_stays_by_hand():
    boxes = tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 10]]])
    scores, labels = tensor([[0.5, 0.9, 0.3, 0.0]]), tensor([[1, 1, 1, 1]])
    found = keep_best(boxes, scores, labels, iou_threshold=0.5, limit=4)
    assert found[1].tolist() == [tensor([0.9, 0.3, 0, 0]).tolist()]
    assert found[0][0, :2].tolist() == [[0, 0, 10, 9], [20, 20, 30, 30]]


def test_rows_of_the_candidates_that_are_kept():
    boxes, scores, labels = (torch.stack([x]) for x in slots(full=40, count=200))
    settings = {"iou_threshold": 0.5, "limit": 30, "min_size": 5.0}
    rows, kept = best_rows(boxes, scores, labels, **settings)
    expected = keep_best(boxes, scores, labels, **settings)
    assert_close(rows_of(boxes, rows), expected[0])
    assert torch.equal(kept, expected[1])
    assert torch.equal(scores.gather(1, rows)[kept > 0], kept[kept > 0])


def test_slots_are_as_many_as_the_fullest_image_fills_and_one_at_least():
    scores = tensor([[0.9, 0, 0, 0], [0.8, 0.7, 0.6, 0]])
    assert filled_slots(scores).tolist() == [0, 1, 2]
    assert filled_slots(scores[:1]).tolist() == [0]
    assert filled_slots(torch.zeros(2, 3)).tolist() == [0]
