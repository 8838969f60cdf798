"""Channels that are tied in torchvision's nets, as Torch-Pruning 1.6.0 finds them.

published_groups.json has of each group its size and its members as "LAYER:SIDE". There,
depth-wise layers have one side, and the classifier's outputs are no group.
"""

import json
from pathlib import Path

import pytest
import torchvision

from razorlite.trace import channel_groups

PUBLISHED = json.loads(Path(__file__).with_name("published_groups.json").read_text())
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("net", PUBLISHED)
def test_groups(net):
    model = getattr(torchvision.models, net)(weights=None)

    def counts(member):
        groups = getattr(model.get_submodule(member.module), "groups", 1)
        return member.side == "out" or groups == 1

    found, last = {}, []
    for group in channel_groups(model, (96, 96)):
        members = [m for m in group.members if counts(m)]
        assert all(m.index == tuple(range(group.size)) for m in group.members)
        names = frozenset(f"{m.module}:{m.side}" for m in members)
        last.append(names) if group.fixed else found.update({names: group.size})
    assert found == {frozenset(g["members"]): g["size"] for g in PUBLISHED[net]}
    assert last == [{"fc:out" if net == "resnet18" else "classifier.1:out"}]
