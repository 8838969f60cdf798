"""`nn.MultiheadAttention` shrinks by whole heads, or is named and left."""

import pytest
import torch
from torch import nn

from razorlite.core.errors import ExportError
from razorlite.cost import count
from razorlite.prune import Channels
from razorlite.trace import channel_graph
from tests.prune.oracle import third, zeroed
from tests.prune.test_attention import kept_of

SHAPE = (8, 8)


class Net(nn.Module):
    """Tokens that look at others, with a stream of 12 and heads of 3."""

    def __init__(self, how, **kwargs):
        super().__init__()
        self.how = how
        self.stem, self.norm = nn.Conv2d(3, 12, 2, 2), nn.LayerNorm(12)
        self.attention = nn.MultiheadAttention(12, 4, **kwargs)
        self.second = nn.MultiheadAttention(12, 2, batch_first=True)  # wider heads
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(getattr(self, self.how)(x, self.norm(x)).mean(1))

    def itself(self, x, y):
        return x + self.attention(y, y, y)[0]

    def others(self, x, y):
        few = y[:, :5]
        return few + self.attention(few, value=y, key=y, need_weights=False)[0]

    def tokens_first(self, x, y):
        few, y = y[:, :5].transpose(0, 1), y.transpose(0, 1)
        return (few + self.attention(few, y, y)[0]).transpose(0, 1)

    def twice(self, x, y):
        x = x + self.attention(y, y, y)[0]
        return x + self.second(x, x, x)[0]

    def masked_heads(self, x, y):
        mask = y.new_zeros(4 * y.shape[0], y.shape[1], y.shape[1])
        return x + self.attention(y, y, y, attn_mask=mask)[0]

    def read_weights(self, x, y):
        values, weights = self.attention(y, y, y)
        return x + values + weights.amax(-1, keepdim=True)


FIRST = {"batch_first": True}
NETS = {
    "itself": (FIRST, 4),
    "others": (FIRST, 4),
    "tokens_first": ({}, 4),
    "twice": ({**FIRST, "bias": False}, 2),
}
LEFT = {"masked_heads": FIRST, "itself": {**FIRST, "add_bias_kv": True}}


def net(how, kwargs):
    torch.manual_seed(0)
    model = Net(how, **kwargs)
    nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    return model.double().eval()


@pytest.mark.parametrize("how", NETS)
def test_slim_equals_a_model_zeroed_by_hand_and_costs_are_exact(how):
    channels = Channels(net(how, NETS[how][0]), SHAPE)
    assert {g.name: g.size for g in channels.graph.prunable} == {"stem": NETS[how][1]}
    images = torch.randn(2, 3, *SHAPE, generator=torch.manual_seed(1)).double()
    for seed in range(2):
        subnet = third(channels, seed)
        slim = channels.slim(subnet)
        with torch.no_grad():
            expected = zeroed(channels, subnet)(images)
            torch.testing.assert_close(slim(images), expected, rtol=1e-5, atol=1e-5)
            with channels.masks(subnet):
                torch.testing.assert_close(channels.model(images), expected, rtol=1e-5, atol=1e-5)
            masked = channels.masked(subnet)(images)
            torch.testing.assert_close(masked, expected, rtol=1e-5, atol=1e-5)
        cost = count(slim, SHAPE)
        assert channels.cost.of(kept_of(channels.graph, subnet)) == {
            "macs": cost.macs,
            "params": cost.params,
        }


@pytest.mark.parametrize("how", NETS)
def test_groups_are_the_same_by_graph_and_by_run(how):
    graphs = [channel_graph(net(how, NETS[how][0]), SHAPE, how=way) for way in ("graph", "run")]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("how", LEFT)
def test_what_cannot_shrink_is_named(how):
    groups = {g.name: g.fixed for g in Channels(net(how, LEFT[how]), SHAPE).graph.groups}
    assert "MultiheadAttention" in groups["stem"]


def test_factors_of_heads_learn():
    channels = Channels(net("itself", FIRST), SHAPE)
    factors = torch.ones(4, requires_grad=True)
    with channels.masks() as masks:
        masks.set({"stem": factors})
        channels.model(torch.randn(1, 3, *SHAPE).double()).sum().backward()
    assert bool((factors.grad != 0).all())


def test_mean_weights_of_all_heads_are_not_those_of_some():
    channels = Channels(net("read_weights", FIRST), SHAPE)
    with pytest.raises(ExportError, match="something else"):
        channels.slim(third(channels))
