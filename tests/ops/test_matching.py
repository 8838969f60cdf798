"""One-to-one matching against trying every permutation."""

from itertools import permutations

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from razorlite.ops.boxes import centres_to_corners, corners_to_centres
from razorlite.ops.matching import match, match_costs


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (6, 1)])
def test_no_other_pairing_is_cheaper(shape):
    torch.manual_seed(sum(shape))
    costs = torch.randn(shape)
    rows, columns = match(costs)
    wide = costs if shape[0] <= shape[1] else costs.mT
    ways = permutations(range(wide.shape[1]), wide.shape[0])
    least = min(sum(wide[i, j].item() for i, j in enumerate(way)) for way in ways)
    assert_close(costs[rows, columns].sum().item(), least)
    assert len(rows.unique()) == len(rows) == len(columns.unique()) == min(shape)


def test_nothing_to_match_and_what_is_no_number():
    assert [len(part) for part in match(torch.zeros(4, 0))] == [0, 0]
    rows, columns = match(tensor([[float("nan"), 1.0], [2.0, float("inf")]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])


def test_costs_by_hand():
    chances = tensor([[0.2, 0.3, 0.5]])
    # a quarter of the object, in its corner: centres 0.25 apart both ways, sides half as long
    box, goal = tensor([[0.25, 0.25, 0.5, 0.5]]), tensor([[0.5, 0.5, 1.0, 1.0]])
    costs = match_costs(chances, box, tensor([1]), goal)
    assert_close(costs, tensor([[-0.3 + 5 * (0.25 + 0.25 + 0.5 + 0.5) - 2 * 0.25]]))


def test_corners_and_centres():
    corners = tensor([[10.0, 20, 30, 60]])
    assert corners_to_centres(corners).tolist() == [[20, 40, 20, 40]]
    assert_close(centres_to_corners(corners_to_centres(corners)), corners)
