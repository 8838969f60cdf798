"""The same detector scaled by hand: widths and resolutions within a budget."""

import pytest
from torch import nn

from razorlite.core import config as core_config
from razorlite.core.errors import BudgetError
from razorlite.cost import count
from razorlite.prune import Stopwatch
from razorlite.recipes.scaled_by_hand import (
    WithinMacs,
    WithinTime,
    at_resolution,
    coarser,
    narrower,
    scaled_by_hand,
)
from razorlite.space import Subnet
from tests.prune.counted import Counted

SHAPE = (64, 96)
LARGEST = Subnet(choices={"a": "b"}, fingerprint="f")


def net():
    convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    return nn.Sequential(*convolutions, nn.ReLU(), nn.Conv2d(16, 4, 1))


def config(transforms=()):
    part = {"transforms": list(transforms)}
    return core_config.load({"data": {"train": part, "val": {}}, "shape": list(SHAPE)})


def test_widths_shrink_together_within_the_budget():
    whole = net()
    budget = count(whole, SHAPE).macs / 2
    found = narrower(whole, LARGEST, SHAPE, WithinMacs(budget))
    kept = [len(indices) for indices in found.subnet.channels.values()]
    assert len(kept) == 2
    assert max(kept) - min(kept) <= 1
    assert 0.8 * budget <= found.cost["macs"] <= budget
    assert found.subnet.choices == LARGEST.choices
    assert found.weights["0.weight"].shape[0] in kept


def test_the_highest_resolution_within_the_budget_is_taken():
    whole = net()
    most = WithinMacs(count(whole, SHAPE).macs * 0.9)
    found = coarser(whole, LARGEST, config(), SHAPE, most)
    assert found.overrides["shape"] == [32, 64]  # in steps of 32 pixels of the longer side
    assert found.cost["macs"] == count(whole, (32, 64)).macs
    with pytest.raises(BudgetError, match="no resolution below 64 x 96"):
        coarser(whole, LARGEST, config(), SHAPE, WithinMacs(10))
    ways, left_out = scaled_by_hand(whole, LARGEST, config(), SHAPE, WithinMacs(10))
    assert (ways, len(left_out)) == ([], 2)


def test_a_measured_time_is_met_by_widths_that_compute_well_and_by_resolution():
    whole, timer = net(), Counted(SHAPE)
    most = WithinTime(0.6, Stopwatch(whole, timer))
    narrow = narrower(whole, LARGEST, SHAPE, most)
    assert sorted(len(kept) for kept in narrow.subnet.channels.values()) == [8, 16]
    assert narrow.time.ms == 2 + narrow.cost["macs"] / 1e5
    coarse = coarser(whole, LARGEST, config(), SHAPE, most)
    assert coarse.overrides["shape"] == [32, 64]
    assert coarse.time.ms == 2 + count(whole, (32, 64)).macs / 1e5
    assert max(narrow.time.share, coarse.time.share) <= 0.6
    with pytest.raises(BudgetError, match=r"no resolution below 64 x 96 meets 1.0% of the largest"):
        coarser(whole, LARGEST, config(), SHAPE, WithinTime(0.01, most.stopwatch))


def test_sizes_in_transforms_shrink_and_where_there_are_none_images_are_resized():
    blocks = [
        {"type": "Resize", "size": [64, 96]},
        {"type": "Choice", "transforms": [{"type": "Resize", "short": [64, 80], "long": 96}]},
        {"type": "Pad", "fill": [0, 0, 0], "divisor": 32},
    ]
    changed = at_resolution(config(blocks), SHAPE, (32, 64))
    first, inner, pad = changed["data.train.transforms"]
    assert first["size"] == [32, 64]
    assert inner["transforms"] == [{"type": "Resize", "short": [32, 40], "long": 64}]
    assert pad == blocks[2]
    [resize] = changed["data.val.transforms"]
    assert resize == {"type": "Resize", "size": [32, 64], "keep_ratio": True}
    assert "data.test.transforms" not in changed
