import torch
from torch import tensor
from torch.testing import assert_close

from razorlite.ops.anchors import base_anchors, grid_anchors, grid_points
from razorlite.ops.nms import entries_of, exact_sigmoid, soft_suppress, suppress, top_candidates


def test_base_anchors_keep_their_area_and_go_through_scales_first():
    anchors = base_anchors(8, (1.0, 2.0), (0.25, 1.0))
    # ratio is height over width: 0.25 makes 16 x 4
    assert_close(anchors[0], tensor([-8.0, -2, 8, 2]))
    assert_close(anchors[1], tensor([-16.0, -4, 16, 4]))
    assert_close(anchors[2], tensor([-4.0, -4, 4, 4]))


def test_points_go_row_by_row():
    points = grid_points((2, 3), 4, 0.5)
    assert points.tolist() == [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6]]


def test_anchors_of_a_cell_lie_together():
    anchors = grid_anchors(tensor([[-1.0, -1, 1, 1], [-2, -2, 2, 2]]), (1, 2), 8)
    assert anchors.tolist() == [[-1, -1, 1, 1], [-2, -2, 2, 2], [7, -1, 9, 1], [6, -2, 10, 2]]


def test_small_chances_keep_their_order_and_their_digits():
    logits = torch.linspace(-75, 10, 500)
    chances = exact_sigmoid(logits)
    assert (chances.diff() > 0).all()
    assert_close(chances, logits.double().sigmoid().float(), rtol=1e-5, atol=0.0)
    extreme = exact_sigmoid(tensor([-torch.inf, -1e9, 1e9, torch.inf]))
    assert (extreme[:2] > 0).all()
    assert extreme[2:].tolist() == [1, 1]


def test_candidates_are_those_above_the_threshold_best_first():
    logits = torch.full((1, 4, 2, 2), -9.0)  # 2 anchors x 2 classes on 2 x 2 cells
    logits[0, 1, 0, 1], logits[0, 2, 1, 0], logits[0, 3, 1, 1] = 2.0, 3.0, 1.0
    scores, labels, anchor, cell = top_candidates(logits, 2, 0.05, 10, trim=True)
    assert_close(scores, tensor([[3.0, 2.0, 1.0]]).sigmoid())
    assert labels.tolist() == [[0, 1, 1]]
    assert anchor.tolist() == [[1, 0, 1]]
    assert cell.tolist() == [[2, 1, 3]]
    assert [part.shape for part in top_candidates(logits, 2, 0.05, 2)] == [(1, 2)] * 4
    assert [part.shape for part in top_candidates(logits, 2, 1.0, 2, trim=True)] == [(1, 0)] * 4
    assert top_candidates(logits, 2, 0.0, 99, trim=True)[0].shape == (1, 16)
    assert top_candidates(logits, 2, 0.0, 99)[0].shape == (1, 99)


def test_slots_without_a_candidate_score_0():
    logits = torch.full((2, 1, 1, 3), -9.0)
    logits[0, 0, 0, 1] = 2.0
    scores, _, _, cell = top_candidates(logits, 1, 0.05, 2)
    assert_close(scores, tensor([[2.0, -torch.inf], [-torch.inf, -torch.inf]]).sigmoid())
    assert cell[0, 0] == 1
    assert top_candidates(logits, 1, 0.05, 2, trim=True)[0].shape == (2, 1)


def test_candidates_equal_a_sort_of_all_entries():
    torch.manual_seed(0)
    logits = torch.randn(2, 3 * 5, 4, 6)  # 3 anchors, 5 classes
    scores, labels, anchor, cell = top_candidates(logits, 5, 0.0, 40)
    for image in range(2):
        entries = logits[image].flatten().sort(descending=True)
        assert_close(scores[image], entries.values[:40].sigmoid())
        number = (anchor[image] * 5 + labels[image]) * 24 + cell[image]
        assert number.tolist() == entries.indices[:40].tolist()


def test_entries_by_hand():
    maps = torch.arange(24.0).view(1, 6, 2, 2)  # 3 anchors of 2 values on 2 x 2 cells
    got = entries_of(maps, 3, tensor([[2, 0]]), tensor([[1, 3]]))
    assert got.tolist() == [[[17.0, 21.0], [3.0, 7.0]]]


def test_suppression_is_within_a_class():
    boxes = tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9.5]])
    scores, labels = tensor([0.5, 0.9, 0.7]), tensor([0, 0, 1])
    assert suppress(boxes, scores, labels, 0.5, 10).tolist() == [1, 2]
    assert suppress(boxes, scores, labels, 0.5, 1).tolist() == [1]


def test_nothing_to_suppress():
    none = torch.zeros(0)
    assert len(suppress(torch.zeros(0, 4), none, none.long(), 0.5, 10)) == 0


SOFT = tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [0, 0, 10, 10]])


def test_soft_suppression_by_hand():
    scores, labels = tensor([0.9, 0.8, 0.5, 0.7]), tensor([0, 0, 0, 1])
    kept, left = soft_suppress(SOFT, scores, labels, 0.3, 10)
    # the second box overlaps the first by 1/2; the fourth is of another class
    assert kept.tolist() == [0, 3, 2, 1]
    assert_close(left, tensor([0.9, 0.7, 0.5, 0.4]))
    kept, left = soft_suppress(SOFT, scores, labels, 0.3, 10, gaussian=True, sigma=0.5)
    assert kept.tolist() == [0, 3, 2, 1]
    assert_close(left[3], 0.8 * torch.exp(tensor(-0.25 / 0.5)))


def test_soft_suppression_leaves_small_overlaps_and_stops_at_its_limits():
    scores, labels = tensor([0.9, 0.8, 0.5, 0.7]), tensor([0, 0, 0, 1])
    assert_close(soft_suppress(SOFT, scores, labels, 0.6, 10)[1], scores.sort(descending=True)[0])
    assert soft_suppress(SOFT, scores, labels, 0.3, 2)[0].tolist() == [0, 3]
    assert soft_suppress(SOFT, scores, labels, 0.3, 9, min_score=0.45)[0].tolist() == [0, 3, 2]
    assert len(soft_suppress(SOFT[:0], scores[:0], labels[:0], 0.3, 9)[0]) == 0


def test_soft_suppression_of_equal_boxes_drops_them():
    boxes = tensor([[0.0, 0, 4, 4]]).repeat(3, 1)
    kept, left = soft_suppress(boxes, tensor([0.5, 0.6, 0.4]), torch.zeros(3).long(), 0.5, 9)
    assert (kept.tolist(), left.tolist()) == ([1], [tensor(0.6).item()])
