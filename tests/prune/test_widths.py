"""One width for each channel group of any model."""

import copy
import logging

import numpy as np
import pytest
import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.cost import CostTable, count
from razorlite.prune import Channels, ChannelWidths, L1Importance
from razorlite.recipes.building import build
from razorlite.recipes.experiment import read
from razorlite.space import Choices, Mutable, Mutator, Placeholder, SearchSpace, Subnet, prepare


class Net(nn.Module):
    """A residual block, a depthwise convolution, group norm, a concatenation and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 24, 3, padding=1)
        self.outer = nn.Conv2d(24, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.side = nn.Conv2d(16, 8, 1)
        self.gn = nn.GroupNorm(4, 8)
        self.last = nn.Conv2d(24, 16, 1)
        self.fc = nn.Linear(16, 5)

    def forward(self, images):
        x = torch.relu(self.bn(self.stem(images)))
        x = x + self.outer(torch.relu(self.inner(x)))
        both = torch.cat([self.depthwise(x), self.gn(self.side(x))], 1)
        return self.fc(torch.relu(self.last(both)).mean((2, 3)))


def whole():
    torch.manual_seed(0)
    net = Net()
    net.bn.running_mean.uniform_(-1, 1)
    return net


def images(side=8):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def width_space(**settings):
    return ChannelWidths(round_to=4, shares=[0.5, 1.0], **settings).prepare(whole(), (8, 8))


def test_each_group_has_one_dimension():
    space = width_space()
    assert [(d.name, d.values) for d in space.dimensions] == [
        ("stem.width", (8, 16)),
        ("inner.width", (12, 24)),
        ("side.width", (4, 8)),
        ("last.width", (8, 16)),
    ]
    follows = {path: [d.name for d in m.dimensions] for path, m in space.mutables.items()}
    assert follows["outer"] == ["stem.width", "inner.width"]
    assert follows["depthwise"] == ["stem.width"]
    assert sorted(follows["last"]) == ["last.width", "side.width", "stem.width"]
    assert space.model.state_dict().keys() == whole().state_dict().keys()


def test_every_point_selected_equals_exported_and_the_largest_is_the_model():
    space = width_space()
    plain = whole()
    assert torch.equal(space.model.train()(images()), plain.train()(images()))
    state = copy.deepcopy(space.model.state_dict())
    for point in space.all_indices():
        subnet = space.decode(point)
        space.select(subnet)
        exported = space.export(subnet)
        assert not any(isinstance(m, Mutable) for m in exported.modules())
        assert torch.equal(exported.eval()(images()), space.model.eval()(images()))
        assert torch.equal(exported.train()(images()), space.model.train()(images()))
        weights = space.chosen_weights(space.model.state_dict(), subnet)
        assert all(torch.equal(weights[n], v) for n, v in exported.state_dict().items())
        space.model.load_state_dict(state)
    assert str(space.export(space.decode([1, 1, 1, 1]))) == str(plain)


def test_concatenated_inputs_keep_the_first_of_each_part():
    values = {"stem.width": 8, "inner.width": 24, "side.width": 4, "last.width": 16}
    space = width_space()
    small = space.export(Subnet(choices=values))
    kept = [*range(8), *range(16, 20)]
    assert torch.equal(small.last.weight, space.model.last.weight[:, kept])
    assert (small.depthwise.groups, small.gn.num_groups, small.bn.num_features) == (8, 2, 8)


def test_statistics_of_channels_that_are_no_range_are_kept():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
            self.bn, self.out = nn.BatchNorm2d(16), nn.Conv2d(16, 2, 1)

        def forward(self, images):
            both = torch.cat([self.one(images), self.two(images)], 1)
            return self.out(self.bn(both))

    space = ChannelWidths(round_to=4, shares=[0.5]).prepare(Joined(), (8, 8))
    space.select(Subnet(choices={"one.width": 4, "two.width": 8}))
    plain = space.export(space.selected).train()
    before = space.model.bn.running_mean.clone()
    assert torch.equal(space.model.train()(images()), plain(images()))
    kept = [*range(4), *range(8, 16)]
    assert torch.equal(space.model.bn.running_mean[kept], plain.bn.running_mean)
    assert torch.equal(space.model.bn.running_var[kept], plain.bn.running_var)
    assert torch.equal(space.model.bn.running_mean[4:8], before[4:8])
    assert space.model.bn.num_batches_tracked == 1


def test_costs_of_all_widths_are_those_of_the_exported_models():
    space = width_space()
    points = space.all_indices()
    costs = CostTable.build(space, (8, 8)).many(points)
    for point, macs, params in zip(points, costs["macs"], costs["params"], strict=True):
        exact = count(space.export(space.decode(point)), (8, 8))
        assert (exact.macs, exact.params) == (macs, params)


def test_what_is_ignored_stays():
    space = width_space(ignore=["inner", "l*"])
    assert [d.name for d in space.dimensions] == ["stem.width", "side.width"]
    assert not isinstance(space.model.fc, Mutable)
    with pytest.raises(ConfigError, match=r"ignore: no module matches 'sten'.*did you mean 'stem'"):
        width_space(ignore=["sten"])


def test_a_model_that_cannot_shrink_is_refused_and_left():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())
    with pytest.raises(ConfigError, match=r"no channel group of Sequential can shrink .*output of"):
        ChannelWidths().prepare(model, (8, 8))
    assert type(model[0]) is nn.Conv2d


def test_layers_that_cannot_be_elastic_are_named_and_left(caplog):
    model = whole()
    model.bn = nn.SyncBatchNorm(16)
    with caplog.at_level(logging.INFO, "razorlite"):
        space = ChannelWidths(shares=[0.5]).prepare(model, (8, 8))
    assert "the width of stem stays: bn is a SyncBatchNorm" in caplog.text
    assert [d.name for d in space.dimensions] == ["inner.width", "last.width"]


def test_widths_beside_choices():
    class Searchable(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.op = nn.Conv2d(3, 8, 1), Placeholder("ops", "op", channels=8)
            self.inner, self.out = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 2, 1)

        def forward(self, images):
            return self.out(torch.relu(self.inner(self.op(self.stem(images)))))

    choices = {"none": lambda channels: nn.Identity(), "conv": lambda channels: nn.Conv2d(8, 8, 1)}
    mutator = Mutator(placeholder_mapping={"ops": Choices(choices=choices)})
    space = prepare(Searchable(), [mutator, ChannelWidths(shares=[0.5])], (8, 8))
    assert {d.name: d.values for d in space.dimensions} == {
        "op": ("none", "conv"),
        "inner.width": (8, 16),
    }
    for point in space.all_indices():
        space.select(space.decode(point))
        exported = space.export(space.decode(point))
        assert torch.equal(exported(images()), space.model(images()))


def test_a_shipped_detector_has_a_width_space():
    _, experiment = read("fcos/fcos_shufflenetv2_bccd")
    with torch.device("meta"):
        plain = build(experiment).model
        space = ChannelWidths(shares=[0.25]).prepare(copy.deepcopy(plain), (64, 64))
    smallest = space.decode([0] * len(space.dimensions))
    assert len(space.dimensions) > 20
    space.select(smallest)
    macs = count(space.model, (64, 64)).macs
    assert macs == count(space.export(smallest), (64, 64)).macs
    assert macs < 0.5 * count(plain, (64, 64)).macs


def test_spaces_of_copies_are_alike():
    space = width_space()
    assert SearchSpace(copy.deepcopy(space.model)).fingerprint == space.fingerprint
    assert space.size == 16
    assert len({tuple(p) for p in space.random_indices(np.random.default_rng(0), 200)}) == 16


def test_sorted_channels_of_loaded_weights_are_those_that_pruning_keeps():
    space, preparer = width_space(), ChannelWidths(round_to=4, shares=[0.5], sort_channels=True)
    plain, model = whole(), whole()
    preparer.put(model, (8, 8))
    preparer.loaded(model)
    torch.testing.assert_close(model(images()), plain(images()))
    channels = Channels(plain, (8, 8))
    scores = L1Importance()(plain, channels.graph.prunable)
    best = {
        group.name: tuple(sorted(scores[group.name].topk(group.size // 2).indices.tolist()))
        for group in channels.graph.prunable
        if len(group.blocks) == 1
    }
    pruned = channels.cut(Subnet(channels=best))
    narrow = {d.name: d.values[d.name.removesuffix(".width") not in best] for d in space.dimensions}
    subnet = SearchSpace(model).export(Subnet(choices=narrow))
    torch.testing.assert_close(subnet(images()), pruned(images()))


def test_placeholders_come_first():
    net = nn.Sequential(nn.Conv2d(3, 16, 1), Placeholder("ops", "first", channels=16))
    with pytest.raises(ConfigError, match=r"list \{type: Mutator.* in front of ChannelWidths"):
        ChannelWidths().prepare(net)


def test_channels_of_a_supernet_are_refused():
    model = whole()
    space = ChannelWidths(round_to=4, shares=[0.5, 1.0]).prepare(model, (8, 8))
    with pytest.raises(
        ConfigError, match=r"is a supernet, of which .* may vary; channels are found"
    ):
        Channels(model, (8, 8)).check_prunable()
    Channels(space.export(space.selected), (8, 8)).check_prunable()
