"""Layers that a forward calls as functions, as subclasses do, shrink like plain ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import DeformConv2d

from razorlite.cost import count
from razorlite.models.deformable import DeformableConv2d
from razorlite.prune import Budget, Channels, Pruner
from razorlite.space.subnet import Subnet
from razorlite.trace import channel_graph
from tests.prune.oracle import third, zeroed
from tests.trace.zoo import Net, conv

SHAPE = (12, 12)


class BatchNormAct(nn.BatchNorm2d):
    """A norm and its activation in one, as in timm."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x):
        own = (self.running_mean, self.running_var, self.weight, self.bias)
        return self.act(F.batch_norm(x, *own, self.training, self.momentum, self.eps))


class LayerNorm2d(nn.LayerNorm):
    """A layer norm of (N, C, H, W)."""

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class SameConv(nn.Conv2d):
    """A convolution that pads for itself."""

    def forward(self, x):
        return F.conv2d(
            F.pad(x, (1, 1, 1, 1)), self.weight, self.bias, self.stride, 0, 1, self.groups
        )


class Projection(nn.Linear):
    """A linear layer of maps."""

    def forward(self, x):
        return F.linear(x.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)


class Moved(nn.Module):
    """A deformable convolution of torchvision's and what tells it where to look."""

    def __init__(self, channels, groups=1):
        super().__init__()
        self.offset = conv(channels, 18 * groups, 3)
        self.conv = DeformConv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x, self.offset(x))


def net(middle):
    model = Net(
        lambda m, x: m.c(m.b(m.m(m.a(x))).relu()),
        a=conv(3, 16),
        m=middle,
        b=conv(16, 8, 3),
        c=conv(8, 4),
    )
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


CASES = {
    "norm with activation": lambda: BatchNormAct(16),
    "planar layer norm": lambda: LayerNorm2d(16),
    "group norm of one group": lambda: nn.GroupNorm(1, 16),
    "padding convolution": lambda: SameConv(16, 16, 3),
    "grouped subclass": lambda: SameConv(16, 16, 3, groups=4),
    "linear subclass": lambda: Projection(16, 16),
    "deformable": lambda: Moved(16),
    "deformable in parts": lambda: Moved(16, groups=2),
    "deformable of a ResNet": lambda: DeformableConv2d(16, 16, 3, padding=1, deform_groups=2),
}


@pytest.mark.parametrize("what", CASES)
def test_slim_equals_a_model_zeroed_by_hand(what):
    channels = Channels(net(CASES[what]()), SHAPE)
    assert {"a", "b"} <= {group.name for group in channels.graph.prunable}
    subnet = third(channels)
    images = torch.randn(2, 3, *SHAPE, generator=torch.manual_seed(1)).double()
    with torch.no_grad():
        expected, given = zeroed(channels, subnet)(images), channels.slim(subnet)(images)
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(given, channels.model(images), atol=1e-3)
        with channels.masks(subnet):
            torch.testing.assert_close(channels.model(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", CASES)
def test_costs_are_exact_and_groups_the_same_both_ways(what):
    channels = Channels(net(CASES[what]()), SHAPE)
    plan = Pruner(budget=Budget(params="60%"), round_to=1).plan(channels)
    cost = count(channels.slim(plan), SHAPE)
    assert plan.cost == {"macs": cost.macs, "params": cost.params}
    if not what.startswith("deformable"):  # torchvision's function hides what it does
        assert channel_graph(channels.model, SHAPE, how="run") == channels.graph


def test_norm_of_a_users_own_shrinks_by_the_statistics_of_what_stays():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.normalized_shape = (4,)
            self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))

        def forward(self, x):
            return F.rms_norm(x, self.normalized_shape, self.weight, 0.0)

    if not hasattr(F, "rms_norm"):
        pytest.skip("torch is older than rms_norm")
    model = Net(
        lambda m, x: m.b(m.n(m.a(x.movedim(1, -1)))),
        a=nn.Linear(3, 4, bias=False),
        n=Root(),
        b=nn.Linear(4, 1, bias=False),
    )
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[3.0, 0, 0], [9, 0, 0], [9, 0, 0], [4, 0, 0]]))
        model.b.weight.fill_(1.0)
    slim = Channels(model, (1, 1)).slim(Subnet(channels={"a": (0, 3)}))
    # root of (9 + 16) / 2 is 3.5355: 3 / 3.5355 * 1 + 4 / 3.5355 * 4 = 5.3740
    given = slim(torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1))
    torch.testing.assert_close(given.flatten(), torch.tensor([5.3740]), atol=1e-4, rtol=0)
    assert slim.n.normalized_shape == (2,)


def test_weights_that_are_computed_are_no_layer():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    graph = channel_graph(net(Standardised(16, 16, 1)), SHAPE)
    reasons = {group.name: group.fixed for group in graph.groups}
    assert "no rule for conv2d" in reasons["a"]
    assert "test_functions.py" in reasons["a"]
    assert reasons["b"] == ""


def test_channels_turned_round_behind_a_subclass():
    class Turned(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).flip(1)

    channels = Channels(net(Turned(16, 16, 1)), SHAPE)
    subnet = third(channels)
    images = torch.randn(1, 3, *SHAPE, generator=torch.manual_seed(1)).double()
    with torch.no_grad():
        expected = zeroed(channels, subnet)(images)
        torch.testing.assert_close(channels.slim(subnet)(images), expected)
