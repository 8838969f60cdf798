"""Published pruned ResNets are planned and built on torchvision's, with their exact cost.

published_structures.json: for each net the channels that its groups keep (named after a layer that
makes them), parameters, and multiply-accumulates of one image of 224 x 224.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torchvision

from razorlite.cost import count
from razorlite.prune import Channels
from razorlite.space import Subnet

NETS = json.loads(Path(__file__).with_name("published_structures.json").read_text())
SHAPE = (224, 224)
pytestmark = pytest.mark.slow


@cache
def whole(net):
    return Channels(getattr(torchvision.models, net)(weights=None), SHAPE)


@pytest.mark.parametrize("name", NETS)
def test_built_with_exact_cost(name):
    channels, net = whole(name.split(".")[0]), NETS[name]
    groups = {
        m.module: g.name for g in channels.graph.prunable for m in g.members if m.side == "out"
    }
    kept = {groups[layer]: tuple(range(number)) for layer, number in net["units"].items()}
    assert kept.keys() == {group.name for group in channels.graph.prunable}
    slim = count(channels.slim(Subnet(channels=kept)), SHAPE)
    assert (slim.params, slim.macs) == (net["params"], net["macs"])
