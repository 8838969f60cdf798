import pytest
import torch
from torch import tensor
from torch.testing import assert_close
from torchvision.ops import roi_align

from razorlite.ops.sparse_align import axis_entries, pairs, ragged, sparse_roi_align


def test_ragged_by_hand():
    owner, nth = ragged(tensor([2, 0, 1]))
    assert owner.tolist() == [0, 0, 2]
    assert nth.tolist() == [0, 1, 0]


def test_pairs_by_hand():
    left, right = pairs(tensor([1, 0, 2]), tensor([2, 3, 1]))
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 5), (2, 5)]


def test_entries_by_hand():
    """One bin from 1 to 3 cells (less half a cell): samples at 1.5 and 2.5 halve cells 1 to 3."""
    got = axis_entries(tensor([1.0]), tensor([3.0]), tensor([8]), 1)
    assert got.bin.tolist() == [0, 0, 0]
    assert got.cell.tolist() == [1, 2, 3]
    assert got.weight.tolist() == [0.25, 0.5, 0.25]
    assert got.count.tolist() == [3]


CASES = {
    "small": [[10.0, 10, 12, 13]],
    "whole map": [[0.0, 0, 64, 48]],
    "long and flat": [[0.0, 20, 64, 21], [30, 0, 31.5, 48]],
    "over the edge": [[-20.0, -9, 30, 30], [40, 30, 90, 70]],
    "outside": [[-90.0, -90, -50, -50], [100, 100, 140, 130]],
    "no area": [[10.0, 10, 10, 20], [8, 8, 8, 8]],
    "turned round": [[30.0, 30, 10, 10]],
    "steps of whole cells": [[4.0, 4, 4 + 5 * 4 * k, 4 + 5 * 4] for k in (1, 2)],
    "none": [],
}


@pytest.mark.parametrize("boxes", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_torchvision(boxes):
    boxes = tensor(boxes, dtype=torch.double).reshape(-1, 4)
    agrees_with_torchvision(boxes, torch.zeros(len(boxes), dtype=torch.long))


@pytest.mark.parametrize("seed", range(5))
def test_random_regions_of_two_images(seed):
    torch.manual_seed(seed)
    corners = torch.rand(60, 2, 2, dtype=torch.double) * 90 - 15
    boxes = torch.cat((corners.amin(1), corners.amax(1)), 1)
    agrees_with_torchvision(boxes, torch.randint(2, (60,)))


def agrees_with_torchvision(boxes: torch.Tensor, image: torch.Tensor) -> None:
    maps = [torch.randn(2, 3, 48 // s, 64 // s).double().requires_grad_() for s in (4, 8)]
    level = torch.arange(len(boxes)) % 2
    got = sparse_roi_align(tuple(maps), boxes, image, level, (4, 8), 5)
    assert got.shape == (len(boxes), 3, 5, 5)
    rows = torch.cat((image[:, None].to(boxes), boxes), 1)
    want = torch.zeros_like(got)
    for i, (m, stride) in enumerate(zip(maps, (4, 8), strict=True)):
        want[level == i] = roi_align(m, rows[level == i], 5, 1 / stride, 0, aligned=True)
    assert_close(got, want)
    weights = torch.randn_like(want)
    gradients = [torch.autograd.grad((out * weights).sum(), maps) for out in (got, want)]
    assert_close(*gradients)
