"""Inner widths of SPOS's units, and its published subnets."""

import json

import pytest
import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.cost import count
from razorlite.recipes.building import build
from razorlite.recipes.experiment import read
from razorlite.search.spaces import BlockWidths
from razorlite.space import Subnet, prepare
from tests.space.units import Units, units_mutator

NAMES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")


@pytest.mark.slow
def test_published_subnets_cost_what_was_counted(test_data):
    path = test_data.parent / "figures" / "published_spaces" / "spos_authors.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with torch.device("meta"):
        space = build(read("spos/shufflenetv2_widths_imagenet")[1]).space
    places = [d.name for d in space.dimensions if not d.name.endswith(".width")]
    nets = json.loads(path.read_text())["nets"]
    assert len(nets) == 3
    for name, net in nets.items():
        scales = net.get("scale_list", [net.get("scale")])
        widths = [scales[i] for i in net.get("scale_ids", [0] * 20)]
        choices = dict(zip(places, (NAMES[i] for i in net["choices"]), strict=True))
        choices |= {f"{p}.width": w for p, w in zip(places, widths, strict=True)}
        found = count(space.export(Subnet(choices=choices)), (224, 224))
        # the authors' classifier has no bias
        assert (found.macs, found.params - 1000) == (net["macs"], net["params"]), name


def test_widths_are_the_first_inner_channels_of_every_choice():
    space = prepare(Units(), [units_mutator(), BlockWidths(scales=[0.2, 1.0, 2.0])])
    assert {d.name: dict(d.when) for d in space.dimensions} == {
        "down": {},
        "same": {},
        "down.width": {},
        "same.width": {},
    }
    small = space.export(
        Subnet(
            choices={
                "down": "shuffle",
                "same": "xception",
                "down.width": 0.2,
                "same.width": 0.2,
            }
        )
    )
    # int(24 // 2 * 0.2) = 2; 8 channels pass by where the map is halved, and 16 are made
    assert small.down.branch2[0].conv.weight.shape == (2, 8, 1, 1)
    assert small.down.branch2[2].conv.weight.shape == (16, 2, 1, 1)
    assert small.down.branch1[1].conv.out_channels == 8
    assert small.same.branch2[1].depthwise_conv.conv.weight.shape == (2, 1, 3, 3)
    whole = space.model.down.choices["shuffle"].branch2[0].conv.weight
    assert torch.equal(small.down.branch2[0].conv.weight, whole[:2])


def test_other_widths_and_models_are_refused():
    with pytest.raises(ConfigError, match=r"ShuffleBlock has the width 2, .* is 1; give it"):
        prepare(Units(), [units_mutator(), BlockWidths(scales=[0.5, 1.0])])
    with pytest.raises(ConfigError, match="Sequential has no choices with units of ShuffleNetV2"):
        BlockWidths().prepare(nn.Sequential(nn.Conv2d(3, 3, 1)))
