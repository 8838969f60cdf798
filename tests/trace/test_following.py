"""Models in wrappers of torch's, and on a processor that needs some."""

import pytest
import torch
from torch import nn

from razorlite.core.compute import Compute
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


@pytest.mark.parametrize("learning", [False, True])
def test_layers_that_go_around_a_fault_of_their_library_are_followed(learning):
    model = nn.Sequential(conv(3, 8), nn.Conv2d(8, 16, 1, stride=2), conv(16, 4))
    before = channel_graph(model, (8, 8))
    Compute.of(torch.device("cpu")).place(model)
    assert model[1]._forward_pre_hooks
    with torch.set_grad_enabled(learning):
        graph = channel_graph(model, (8, 8))
    assert graph.altered == ()
    assert graph.prunable == before.prunable
    assert len(graph.prunable) == 2
