"""Attention written out in a module shrinks in the widths of its heads, or by whole heads."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from razorlite.cost import count, tabulate
from razorlite.prune import Channels, ChannelWidths
from razorlite.trace import channel_graph
from tests.prune.oracle import third

SHAPE = (8, 8)


def thirds(x):
    parts = x.chunk(3, -1)  # each by its number, as PyTorch 2.4's torch.fx follows nothing else
    return [parts[i] for i in range(3)]


def stacked(x):
    x = x.permute(2, 0, 3, 1, 4)
    return [x[i] for i in range(3)]


class Attention(nn.Module):
    """Attention in 2 heads of 4 over a stream of 8, in one of its spellings."""

    def __init__(self, how, heads=2, width=4, stream=8):
        super().__init__()
        self.how, self.heads, self.width, self.scale = how, heads, width, width**-0.5
        self.qkv = nn.Linear(stream, 3 * heads * width)
        self.proj = nn.Linear(heads * width, stream)

    def forward(self, x):
        n, k, c = x.shape
        return self.proj(getattr(self, self.how)(self.qkv(x), n, k, c))

    def widths(self, x, n, k, c):
        q, key, v = stacked(x.reshape(n, k, 3, self.heads, -1))
        attention = (q * self.scale @ key.transpose(-2, -1)).softmax(-1)
        return (attention @ v).transpose(1, 2).flatten(2)

    def whole_heads(self, x, n, k, c):
        q, key, v = stacked(x.reshape(n, k, 3, -1, self.width))
        attention = (torch.matmul(q, key.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        return torch.matmul(attention, v).transpose(1, 2).reshape(n, k, -1)

    def fused(self, x, n, k, c):
        q, key, v = (y.view(n, k, -1, self.width).transpose(1, 2) for y in thirds(x))
        return F.scaled_dot_product_attention(q, key, v).transpose(1, 2).reshape(n, k, -1)

    def fused_widths(self, x, n, k, c):
        q, key, v = (y.view(n, k, self.heads, -1).transpose(1, 2) for y in thirds(x))
        y = F.scaled_dot_product_attention(q, key, v, scale=self.scale)
        return y.transpose(1, 2).flatten(2)

    def scaled_by_width(self, x, n, k, c):
        q, key, v = (y.view(n, k, self.heads, -1).transpose(1, 2) for y in thirds(x))
        return F.scaled_dot_product_attention(q, key, v).transpose(1, 2).flatten(2)

    def letters(self, x, n, k, c):
        q, key, v = (y.view(n, k, self.heads, -1) for y in thirds(x))
        attention = (torch.einsum("nqhc,nkhc->nhqk", q, key) * self.scale).softmax(-1)
        return torch.einsum("nhqk,nkhc->nqhc", attention, v).flatten(2)

    def by_stream(self, x, n, k, c):
        q, key, v = stacked(x.reshape(n, k, 3, self.heads, c // self.heads))
        attention = (q @ key.transpose(-2, -1) * self.scale).softmax(-1)
        return (attention @ v).transpose(1, 2).reshape(n, k, c)

    def scaled_by_stream(self, x, n, k, c):
        q, key, v = stacked(x.reshape(n, k, 3, self.heads, c // self.heads))
        attention = (q @ key.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1)
        return (attention @ v).transpose(1, 2).reshape(n, k, c)

    def rigid_by_stream(self, x, n, k, c):
        q, key, v = stacked(x.reshape(n, k, 3, 2, 4))
        attention = (q @ key.transpose(-2, -1) * self.scale).softmax(-1)
        return (attention @ v).transpose(1, 2).reshape(n, k, c)

    def rigid(self, x, n, k, c):
        q, key, v = stacked(x.reshape(n, k, 3, 2, 4))
        attention = (q * self.scale @ key.transpose(-2, -1)).softmax(-1)
        return (attention @ v).transpose(1, 2).flatten(2)

    def attributes(self, x, n, k, c):
        q, key, v = stacked(x.reshape(n, k, 3, self.heads, self.width))
        y = F.scaled_dot_product_attention(q, key, v).transpose(1, 2)
        return y.reshape(n, k, self.heads * self.width)

    def shifted(self, x, n, k, c):
        q, key, v = stacked(x.reshape(n, k, 3, self.heads, -1))
        return (q.sigmoid() @ key.transpose(-2, -1) @ v).transpose(1, 2).flatten(2)


class Separate(nn.Module):
    """Queries and keys of one width, values of another."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(8, 4)
        self.norm = nn.LayerNorm(3)
        self.proj = nn.Linear(4, 8)

    def forward(self, x):
        n, k, _ = x.shape
        q, key, v = (f(x).view(n, k, 2, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = (self.norm(q) @ key.transpose(-2, -1) / 3).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).flatten(2))


class Net(nn.Module):
    """A stream of tokens with a block of attention and an MLP."""

    def __init__(self, attention):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 5)
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(8) for _ in range(3))
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x).mean(1))


def net(how):
    torch.manual_seed(0)
    model = Net(Separate() if how == "separate" else Attention(how))
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.double().eval()


# spelling: units of the groups of queries and of values
FREE = {
    "widths": [4],
    "whole_heads": [2],
    "fused": [2],
    "attributes": [2],
    "fused_widths": [4],
    "letters": [4],
    "separate": [3, 2],
}
LEFT = {
    "rigid": "brought to a set size",
    "scaled_by_width": "the scale follows the width of heads",
    "shifted": "multiplied with others",
}
STREAM = {
    "rigid_by_stream": "brought to a set size",
    "scaled_by_stream": "reckoned with",
}


@torch.no_grad()
def zeroed(model, channels, subnet):
    """What a model gives whose dropped channels are set to zero where its layers make them."""
    handles = []
    for group in channels.graph.prunable:
        kept = set(subnet.channels[group.name])
        for member in group.members:
            gone = [c for c, unit in enumerate(member.index) if unit >= 0 and unit not in kept]
            layer = model.get_submodule(member.module)
            if member.side == "out" and not member.counted:
                handles.append(layer.register_forward_hook(_without(layer, gone)))
    given = model(images())
    for handle in handles:
        handle.remove()
    return given


def _without(layer, gone):
    def hook(_, inputs, out):
        if isinstance(layer, nn.LayerNorm):
            stays = [c for c in range(out.shape[-1]) if c not in gone]
            x = inputs[0][..., stays]
            x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, False, keepdim=True) + layer.eps).sqrt()
            out = out.clone()
            out[..., stays] = x * layer.weight[stays] + layer.bias[stays]
        out = out.clone() if not isinstance(layer, nn.Conv2d) else out.clone().movedim(1, -1)
        out[..., gone] = 0
        return out.movedim(-1, 1) if isinstance(layer, nn.Conv2d) else out

    return hook


def images():
    return torch.randn(2, 3, *SHAPE, generator=torch.manual_seed(1)).double()


@pytest.mark.parametrize("how", FREE)
def test_slim_equals_a_model_zeroed_by_hand(how):
    channels = Channels(net(how), SHAPE)
    sizes = {group.name: group.size for group in channels.graph.prunable}
    inner = [
        sizes[f"attention.{name}"] for name in ("q", "v", "qkv") if f"attention.{name}" in sizes
    ]
    assert inner == FREE[how]
    assert (sizes["stem"], sizes["mlp.0"]) == (8, 12)
    assert_exact(channels)


def assert_exact(channels):
    for seed in range(3):
        subnet = third(channels, seed)
        slim, expected = channels.slim(subnet), zeroed(channels.model, channels, subnet)
        with torch.no_grad():
            torch.testing.assert_close(slim(images()), expected, rtol=1e-5, atol=1e-5)
            with channels.masks(subnet):
                given = channels.model(images())
            torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
        cost = count(slim, SHAPE)
        assert channels.cost.of(kept_of(channels.graph, subnet)) == {
            "macs": cost.macs,
            "params": cost.params,
        }
        assert cost.macs < channels.cost.whole["macs"]


def kept_of(graph, subnet):
    stays = (np.isin(np.arange(g.size), subnet.channels[g.name]) for g in graph.prunable)
    return np.concatenate(list(stays))


def test_heads_as_wide_as_the_stream_says_shrink_with_it():
    channels = Channels(net("by_stream"), SHAPE)
    assert {g.name: g.size for g in channels.graph.prunable} == {"stem": 4, "mlp.0": 12}
    assert_exact(channels)


@pytest.mark.parametrize("how", STREAM)
def test_a_stream_that_must_stay_is_named(how):
    groups = {group.name: group.fixed for group in Channels(net(how), SHAPE).graph.groups}
    assert STREAM[how] in groups["stem"]


@pytest.mark.parametrize("how", ["by_stream", *FREE, *LEFT, *STREAM])
def test_groups_are_the_same_by_graph_and_by_run(how):
    graphs = [channel_graph(net(how), SHAPE, how=way) for way in ("graph", "run")]
    one, other = ([(g.name, g.size, bool(g.fixed), g.members) for g in x.groups] for x in graphs)
    assert one == other
    assert graphs[0].layers == graphs[1].layers


@pytest.mark.parametrize("how", ["widths", "by_stream"])
def test_widths_of_attention_are_searched_at_exact_costs(how):
    space = ChannelWidths(round_to=1, shares=[0.5, 1.0]).prepare(net(how).float(), SHAPE)
    points = np.array(list(space.all_indices()))
    costs = tabulate(space, SHAPE).many(points)
    for number, point in enumerate(points):
        subnet = space.decode(point)
        space.select(subnet)
        plain, cost = space.export(subnet), count(space.export(subnet), SHAPE)
        x = images().float()
        assert torch.equal(space.model.eval()(x), plain.eval()(x))
        assert (costs["macs"][number], costs["params"][number]) == (cost.macs, cost.params)


@pytest.mark.parametrize("how", LEFT)
def test_what_stays_is_named_and_the_stream_still_shrinks(how):
    channels = Channels(net(how), SHAPE)
    fixed = {group.name: group.fixed for group in channels.graph.groups if group.fixed}
    assert LEFT[how] in fixed["attention.qkv"]
    subnet = third(channels)
    slim, expected = channels.slim(subnet), zeroed(channels.model, channels, subnet)
    assert slim.attention.qkv.in_features == slim.stem.out_channels < 8
    assert slim.attention.qkv.out_features == 24
    with torch.no_grad():
        torch.testing.assert_close(slim(images()), expected, rtol=1e-5, atol=1e-5)
