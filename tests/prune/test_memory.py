"""A budget of memory."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from razorlite.core.errors import BudgetError
from razorlite.cost import peak_memory
from razorlite.prune import Budget, Channels, Pruner
from razorlite.prune.memory import memory_lines
from razorlite.prune.planning import by_group
from razorlite.space import Subnet
from tests.prune.known import SHAPE, channels_of
from tests.trace.zoo import Net, conv


@pytest.fixture
def small():
    """Channels of layers that are added and concatenated."""

    def run(m, x):
        a = m.a(x)
        return m.d(torch.cat([F.relu(m.b(a)) + a, m.c(a)], 1))

    return Channels(Net(run, a=conv(3, 16), b=conv(16, 16), c=conv(16, 8, 3), d=conv(24, 4)), SHAPE)


@pytest.mark.parametrize("name", ["small", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_memory_that_is_planned_is_that_of_the_slim_model(name, small):
    channels = small if name == "small" else channels_of(name)
    whole = peak_memory(channels.model, SHAPE)
    pruner = Pruner(budget=Budget(memory="60%", macs="80%"), min_keep=0.0, round_to=1)
    subnet = pruner.plan(channels)
    assert peak_memory(channels.cut(subnet), SHAPE) == subnet.cost["memory"] <= 0.6 * whole
    assert subnet.cost["macs"] <= 0.8 * channels.cost.whole["macs"]


def test_any_widths_are_counted_to_the_byte(small):
    channels = small
    lines = memory_lines(channels.model, channels.graph, SHAPE)
    rng = np.random.default_rng(0)
    kept = rng.random(channels.graph.size) < 0.5
    slim = channels.cut(Subnet(channels=by_group(channels.graph, kept)))
    assert channels.cost.of(kept, ["memory"])["memory"] == peak_memory(slim, SHAPE)
    assert lines.whole == peak_memory(channels.model, SHAPE)


def test_a_budget_that_cannot_be_met_names_the_range(small):
    with pytest.raises(BudgetError, match=r"budget memory <= 1,000 cannot be met: .* reaches"):
        Pruner(budget=Budget(memory=1000)).plan(small)
