"""Models in wrappers of torch's."""

import torch
from torch import nn

from razorlite.trace import channel_graph
from tests.prune.odd_modules import pair
from tests.trace.zoo import conv


def test_compiled_parts_are_followed():
    block = nn.Sequential(conv(16, 16), nn.ReLU())
    model = pair(lambda m, x: m.b(m.c(m.a(x))), c=torch.compile(block, backend="eager"))
    graph = channel_graph(model, (8, 8))
    assert [group.name for group in graph.prunable] == ["a", "c._orig_mod.0"]
    assert graph.altered == ()


def test_compiled_model_is_followed():
    model = torch.compile(nn.Sequential(conv(3, 16), conv(16, 4)), backend="eager")
    assert [group.name for group in channel_graph(model, (8, 8)).prunable] == ["_orig_mod.0"]
