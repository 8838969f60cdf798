"""What lies between layers: halves of the channels go exactly, or stay and are named."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from razorlite.cost import count
from razorlite.prune import Channels, L1Importance
from razorlite.prune.sorting import sort_channels
from razorlite.space.subnet import Subnet
from tests.prune.odd_attributes import ATTRIBUTES
from tests.prune.odd_operations import CASES as OPERATIONS
from tests.trace.zoo import stirred

SHAPE = (8, 8)
CASES = OPERATIONS | ATTRIBUTES


def model_of(what):
    torch.manual_seed(0)
    model = stirred(CASES[what][1]().eval())
    for parameter in model.parameters():
        if parameter.numel() > 1 and parameter.min() == parameter.max():
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model.double()


def half(channels):
    """Keep half of the units at random, at least one of each layer."""
    rng = np.random.default_rng(0)
    kept = {}
    for group in channels.graph.prunable:
        stays = rng.permutation(group.size) < (group.size + 1) // 2
        for member in group.members:
            units = np.unique([i for i in member.index if i >= 0])
            stays[units[0]] |= not stays[units].any()
        kept[group.name] = tuple(np.flatnonzero(stays).tolist())
    return Subnet(channels=kept)


@torch.no_grad()
def by_hand(channels, subnet):
    """A copy whose dropped channels are zero where layers make them and where layers read them."""
    model = copy.deepcopy(channels.model)
    for group in channels.graph.prunable:
        kept = set(subnet.channels[group.name])
        for member in group.members:
            layer = model.get_submodule(member.module)
            gone = [c for c, unit in enumerate(member.index) if unit >= 0 and unit not in kept]
            if member.normed:
                layer.register_forward_hook(normed(gone))
            for name, dim in () if member.normed or member.counted else member.tensors:
                weight = getattr(layer, name).data
                groups = 1 if name == "bias" else getattr(layer, "groups", 1)
                for channel in gone:
                    zero(weight, dim, channel, groups)
    return model


def zero(weight, dim, channel, groups):
    """Set the weights of one channel to zero; of groups, those along the second dimension."""
    size = weight.shape[dim]
    group, place = divmod(channel, size)
    rows = weight.chunk(groups)[group] if dim and groups > 1 else weight
    rows.select(dim, place).zero_()


def normed(gone):
    def hook(layer, inputs, out):
        dims = list(range(-len(layer.normalized_shape), 0))
        x = inputs[0].movedim(dims[0], 0)
        stays = [c for c in range(len(x)) if c not in gone]
        some = x[stays].movedim(0, dims[0])
        some = (some - some.mean(dims, True)) / (some.var(dims, False, True) + layer.eps).sqrt()
        given = torch.zeros_like(x)
        given[stays] = (some * layer.weight[stays] + layer.bias[stays]).movedim(dims[0], 0)
        return given.movedim(0, dims[0])

    return hook


def outputs(model, training):
    model = copy.deepcopy(model).train(training)
    images = torch.randn(2, 3, *SHAPE, dtype=torch.double, generator=torch.manual_seed(1))
    with torch.no_grad():
        return tree_leaves(model(images))


def in_order(channels):
    """A copy whose channels lie in the order of their importance."""
    model, groups = copy.deepcopy(channels.model), channels.graph.prunable
    sort_channels(model, groups, L1Importance()(model, groups))
    for group in groups:
        scores = L1Importance().unit_scores(model, group)
        assert all((scores[list(block.units)].diff() <= 1e-9).all() for block in group.blocks)
    return model


@pytest.mark.parametrize("what", CASES)
def test_halves_go_exactly(what):
    channels = Channels(model_of(what), SHAPE)
    free = {group.name for group in channels.graph.prunable}
    assert free == set(CASES[what][0].split())
    subnet = half(channels)
    slim, zeroed = channels.cut(subnet), by_hand(channels, subnet)
    for training in (False, True):
        expected, given = outputs(zeroed, training), outputs(slim, training)
        assert len(given) == len(expected) > 0
        for a, b in zip(given, expected, strict=True):
            torch.testing.assert_close(a, b)
    kept = [np.isin(np.arange(g.size), subnet.channels[g.name]) for g in channels.graph.prunable]
    cost = count(slim, SHAPE)
    foretold = channels.cost.of(np.concatenate(kept)) if kept else channels.cost.whole
    assert foretold == {"macs": cost.macs, "params": cost.params}
    ordered = in_order(channels)
    for a, b in zip(outputs(ordered, False), outputs(channels.model, False), strict=True):
        torch.testing.assert_close(a, b)


def test_attributes_count_what_is_left():
    channels = Channels(model_of("heads"), SHAPE)
    sizes = {group.name: group.size for group in channels.graph.prunable}
    assert sizes == {"a": 16, "t.qkv": 4, "t.proj": 16}
    attention = channels.cut(Subnet(channels={"t.qkv": (0, 3)})).t
    assert (attention.num_heads, attention.head_dim) == (2, 4)
    assert (attention.qkv.out_features, attention.proj.in_features) == (24, 8)
    assert torch.equal(attention.proj.weight[:, 4:], channels.model.t.proj.weight[:, 12:])
    assert Channels(attention, (torch.zeros(1, 5, 16).double(),)).graph.prunable[0].size == 2

    slim = Channels(model_of("scale"), SHAPE)
    assert slim.cut(Subnet(channels={"a": (1, 2, 9)})).s.shape == (3, 1, 1)


def test_attributes_that_are_reckoned_with_are_named():
    left = Channels(model_of("heads that are reckoned with"), SHAPE).report()["left"]
    assert left == {"t.qkv": "their number, t.num_heads, is reckoned with"}


@pytest.mark.parametrize("what", [name for name, (free, _) in CASES.items() if not free])
def test_what_cannot_be_followed_is_named_with_its_line(what):
    left = Channels(model_of(what), SHAPE).report()["left"]
    named = ("odd_operations.py:", "all at once", "several dimensions of p")
    assert any(words in left["a"] for words in named)
