"""Rules that users teach, and the example of docs/pruning.md."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.prune import Channels
from razorlite.trace import channel_graph, pointwise, rule, rules
from tests.prune.oracle import third, zeroed
from tests.trace.zoo import Net, conv

DOCS = Path(__file__).resolve().parents[2] / "docs" / "pruning.md"


@pytest.fixture(autouse=True)
def _taught(monkeypatch):
    monkeypatch.setattr(rules, "_TAUGHT", {})


def test_example_of_the_docs():
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    exec(next(block for block in blocks if "@rule(" in block), names)
    assert names["reach"]["params"] > 0.9
    channels = Channels(names["model"], (32, 32))
    subnet = third(channels)
    images = torch.randn(1, 3, 32, 32)
    expected, given = zeroed(channels, subnet)(images), channels.slim(subnet)(images)
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)


def test_functions_can_be_taught_for_both_ways():
    model = Net(lambda m, x: m.b(torch.frac(m.a(x))), a=conv(3, 8), b=conv(8, 2))
    assert "no rule for frac" in channel_graph(model, (8, 8)).groups[0].fixed
    rule(torch.frac)(pointwise)
    for how in ("graph", "run"):
        assert channel_graph(model, (8, 8), how=how).groups[0].fixed == ""


def test_a_wrong_rule_is_found_out(caplog):
    from razorlite.prune import Budget, Pruner

    class Mixes(nn.Module):
        def forward(self, x):
            return x.softmax(1)

    rule(Mixes)(pointwise)
    model = nn.Sequential(conv(3, 8), Mixes(), conv(8, 8), conv(8, 2))
    plan = Pruner(budget=Budget(params="80%"), round_to=1).plan(model, (8, 8))
    assert len(plan.channels["0"]) == 8
    assert "pruning leaves the channels of 0 alone" in caplog.text


@pytest.mark.parametrize("what", [3, "Conv2d", int])
def test_only_layers_and_functions(what):
    with pytest.raises(ConfigError, match="rule takes classes"):
        rule(what)
