"""Costs of spaces with widths, kernels, depths and nested choices, tabulated from a few runs."""

import numpy as np
import pytest
import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.cost import count, tabulate
from razorlite.space import Dimension, OneOf, SearchSpace
from tests.cost.elastic import Chain, ElasticConv, chain_space, mixed_space
from tests.space.test_elastic import net_space
from tests.space.test_nested import nested_space

SHAPE = (10, 14)


def exact(space, subnet, shape=SHAPE):
    found = count(space.export(subnet), shape)
    return {"macs": found.macs, "params": found.params}


def test_hand_made_elastic_convolutions():
    # on 10 x 14 pixels: 3 -> width0 of kernel0, width0 -> width1 of kernel1
    space = chain_space(length=2, widths=(4, 8))
    costs = tabulate(space, SHAPE)
    point = {"width0": 8, "kernel0": 1, "width1": 4, "kernel1": 5}
    names = [d.name for d in space.dimensions]
    row = np.array([[space.dimensions[names.index(n)].values.index(v) for n, v in point.items()]])
    row = row[:, [list(point).index(n) for n in names]]
    assert costs.many(row)["macs"].tolist() == [140 * (3 * 8 + 8 * 4 * 25)]
    assert costs.many(row)["params"].tolist() == [3 * 8 + 8 + 8 * 4 * 25 + 4]
    assert costs.bounds()["macs"] == (140 * (3 * 4 + 4 * 4), 140 * 25 * (3 * 8 + 8 * 8))


@pytest.mark.parametrize("make", [chain_space, mixed_space])
def test_tables_equal_a_count_of_the_exported_model(make):
    space = make()
    costs = tabulate(space, SHAPE)
    rng = np.random.default_rng(1)
    subnets = [space.random(rng) for _ in range(25)]
    for subnet in [*subnets, costs.smallest(), costs.largest("params")]:
        assert dict(costs(subnet)) == exact(space, subnet)


def cells_space():
    space = nested_space()
    space.model.example = lambda shape: torch.zeros(1, 4, *shape)
    return space


@pytest.mark.parametrize("make", [net_space, cells_space])
def test_every_point_of_elastic_and_nested_spaces_is_exact(make):
    space = make()
    costs = tabulate(space, (6, 6))
    for point in space.all_indices():
        subnet = space.decode(point)
        assert dict(costs(subnet)) == exact(space, subnet, (6, 6))


def test_bounds_are_those_of_all_points():
    space = mixed_space()
    costs = tabulate(space, SHAPE)
    every = costs.many(space.all_indices())
    for name, (low, high) in costs.bounds().items():
        assert (low, high) == (every[name].min(), every[name].max())
        assert costs(costs.smallest(name))[name] == low
        assert costs(costs.largest(name))[name] == high


def test_points_that_differ_in_nothing_that_counts_cost_the_same():
    space = mixed_space()
    points = np.random.default_rng(2).integers(0, space.counts, (500, len(space.counts)))
    costs = tabulate(space, SHAPE)
    assert not (points == space.canonical(points)).all()
    for name, values in costs.many(points).items():
        assert (values == costs.many(space.canonical(points))[name]).all()


def test_few_runs_are_enough(monkeypatch):
    space = chain_space(length=4)
    runs = []
    space.model.register_forward_pre_hook(lambda *_: runs.append(1))
    tabulate(space, SHAPE)
    # 4 * 4 * 3 combinations for one layer; all layers share the runs
    assert 48 <= len(runs) < 2 * 48


def test_building_leaves_the_supernet_and_the_random_state():
    space = mixed_space()
    space.select(space.random(np.random.default_rng(5)))
    chosen, state = space.selected, torch.get_rng_state()
    tabulate(space, SHAPE)
    assert space.selected == chosen
    assert torch.equal(torch.get_rng_state(), state)
    assert all(not m._forward_pre_hooks and not m._forward_hooks for m in space.model.modules())


class Hidden(nn.Module):
    """Choices of operations that follow an elastic width which only the layer before names."""

    def __init__(self):
        super().__init__()
        self.first = ElasticConv(3, Dimension("width", (2, 4, 6)))
        self.mix = OneOf(choices={"mix": Mix(1), "twice": Mix(2), "id": Mix(0)}, space_id="mix")

    def forward(self, images):
        return self.mix(self.first(images))


class Mix(nn.Module):
    """So many products of all channels with themselves."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def forward(self, x):
        for _ in range(self.times):
            tokens = x.flatten(2)
            x = tokens.matmul(tokens.transpose(1, 2)).matmul(tokens).view_as(x)
        return x


def test_what_a_layer_does_not_name_is_found():
    space = SearchSpace(Hidden())
    costs = tabulate(space, SHAPE)
    for point in space.all_indices():
        subnet = space.decode(point)
        assert dict(costs(subnet)) == exact(space, subnet)


class FailsHalfway(Chain):
    """Runs all of its layers, then asks for a value; on shapes alone that fails."""

    def forward(self, images):
        x = super().forward(images)
        return x * float(x.sum() > 0)


def test_a_run_that_fails_halfway_counts_nothing():
    space, plain = SearchSpace(FailsHalfway(2, (4, 8))), chain_space(length=2, widths=(4, 8))
    assert tabulate(space, SHAPE).bounds() == tabulate(plain, SHAPE).bounds()


class Refuses(Chain):
    """Has no forward for some widths."""

    def forward(self, images):
        x = super().forward(images)
        if x.shape[1] == 8:
            raise RuntimeError("eight is\nnot enough")
        return x


def test_a_forward_that_fails_is_named_in_one_line():
    with pytest.raises(ConfigError, match="cannot count what Refuses costs") as caught:
        tabulate(SearchSpace(Refuses(2, (4, 8))), SHAPE)
    text = str(caught.value)
    assert "width1=8" in text
    assert "RuntimeError: eight is not enough" in text
    assert "meta device" in text
    assert "\n" not in text


class Dense(nn.Module):
    """A plain layer that reads the channels of many elastic ones."""

    def __init__(self, parts):
        super().__init__()
        widths = [Dimension(f"width{i}", (1, 2, 3, 4)) for i in range(parts)]
        self.parts = nn.ModuleList(ElasticConv(3, width) for width in widths)
        self.last = Mix(1)

    def forward(self, images):
        return self.last(torch.cat([part(images) for part in self.parts], 1))


def test_a_sum_of_many_widths_is_exact_or_refused_by_name():
    space = SearchSpace(Dense(3))
    costs = tabulate(space, (3, 3))
    for point in space.random_indices(np.random.default_rng(0), 8):
        subnet = space.decode(point)
        assert dict(costs(subnet)) == exact(space, subnet, (3, 3))
    message = r"what last costs depends on 8 dimensions \(width0, .*65,536 combinations"
    with pytest.raises(ConfigError, match=message):
        tabulate(SearchSpace(Dense(8)), (3, 3))


class Shares(nn.Module):
    """Two choices that have one layer in common, which is also a third place's."""

    def __init__(self):
        super().__init__()
        both, fixed = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)
        self.fixed = fixed
        self.a = OneOf(choices={"x": both, "y": nn.Identity(), "z": fixed}, space_id="a")
        self.b = OneOf(choices={"x": both, "y": nn.Conv2d(3, 3, 5, padding=2)}, space_id="b")

    def forward(self, images):
        return self.b(self.a(self.fixed(images)))


def test_shared_parameters_count_once():
    space = SearchSpace(Shares())
    costs = tabulate(space, SHAPE)
    for point in space.all_indices():
        subnet = space.decode(point)
        assert dict(costs(subnet)) == exact(space, subnet)
