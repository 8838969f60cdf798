import math

import torch
from torch import tensor
from torch.testing import assert_close

from razorlite.ops import coding

ANCHOR = tensor([[0.0, 0, 10, 20]])


def test_deltas_by_hand():
    # centre (5, 10) -> (7, 10), width 10 -> 20, height as it was
    deltas = coding.boxes_to_deltas(ANCHOR, tensor([[-3.0, 0, 17, 20]]))
    assert_close(deltas, tensor([[0.2, 0, math.log(2), 0]]))


def test_means_and_stds_by_hand():
    deltas = coding.boxes_to_deltas(
        ANCHOR, ANCHOR, means=(0.1, 0.2, 0.3, 0.4), stds=(0.1, 0.1, 0.2, 0.2)
    )
    assert_close(deltas, tensor([[-1.0, -2, -1.5, -2]]))


def test_decoding_inverts_encoding():
    corner = torch.rand(50, 2) * 40
    boxes = torch.cat((corner, corner + torch.rand(50, 2) * 40 + 1), 1)
    options = {"means": (0.0, 0.1, 0.0, 0.2), "stds": (0.1, 0.1, 0.2, 0.2)}
    deltas = coding.boxes_to_deltas(boxes.flip(0), boxes, **options)
    assert_close(coding.deltas_to_boxes(boxes.flip(0), deltas, **options), boxes)


def test_growth_is_limited_and_boxes_are_clipped():
    huge = coding.deltas_to_boxes(ANCHOR, tensor([[0.0, 0, 50, 50]]))
    assert_close(huge[0, 2] - huge[0, 0], tensor(625.0))
    clipped = coding.deltas_to_boxes(ANCHOR, tensor([[0.0, 0, 50, 50]]), size=(30, 40))
    assert_close(clipped, tensor([[0.0, 0, 40, 30]]))


def test_box_without_width_has_finite_deltas():
    assert coding.boxes_to_deltas(ANCHOR, tensor([[3.0, 3, 3, 9]])).isfinite().all()


def test_distances_by_hand_and_back():
    point, box = tensor([[4.0, 6]]), tensor([[1.0, 1, 10, 20]])
    distances = coding.boxes_to_distances(point, box)
    assert_close(distances, tensor([[3.0, 5, 6, 14]]))
    assert_close(coding.distances_to_boxes(point, distances), box)
    assert_close(coding.distances_to_boxes(point, distances, (15, 8)), tensor([[1.0, 1, 8, 15]]))
