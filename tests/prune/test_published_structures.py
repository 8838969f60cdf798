"""Published pruned nets are built on the unpruned ones, with their exact cost.

published_structures.json: for each net the channels that its groups keep (named after a layer that
makes them, in OpenMMLab's names), parameters, and multiply-accumulates of one image of a shape.
"""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from razorlite.core.errors import SubnetError
from razorlite.cost import count
from razorlite.prune import Channels
from razorlite.prune._group_names import GroupNames, torchvision_names
from razorlite.recipes import build_model
from razorlite.space import Subnet

NETS = json.loads(Path(__file__).with_name("published_structures.json").read_text())
WIDER = ("mobilenet_v2.dmcp_100m",)  # DMCP starts at 1.5 times the width, too


def unpruned(net):
    if net == "retinanet_r50_fpn":
        return build_model("retinanet_r50_fpn_1x_coco", {"model.backbone.pretrained": None})
    wide = {"width_mult": 1.5} if net.endswith("_1.5x") else {}
    return getattr(torchvision.models, net.removesuffix("_1.5x"))(weights=None, **wide)


@cache
def whole(net, shape):
    with torch.device("meta"):
        return Channels(unpruned(net), shape)


def channels_of(name):
    net = "mobilenet_v2_1.5x" if name in WIDER else re.split(r"\.(?!5x)", name)[0]
    return whole(net, tuple(NETS[name]["shape"]))


def published(name, folder):
    """Return the subnet of a file that says how many channels each layer makes."""
    path = folder / "subnet.yaml"
    path.write_text(
        "channels:\n" + "".join(f"  {k}: {n}\n" for k, n in NETS[name]["units"].items())
    )
    return Subnet.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_built_with_exact_cost(name, tmp_path):
    channels, net, subnet = channels_of(name), NETS[name], published(name, tmp_path)
    names = GroupNames(channels.graph, subnet.channels)
    found = {names[layer].name for layer in subnet.channels}
    assert found == {group.name for group in channels.graph.prunable}
    slim = count(channels.slim(subnet), tuple(net["shape"]))
    assert (slim.params, slim.macs) == (net["params"], net["macs"])


def widths_file(folder, raw=48):
    """Write AutoSlim's smallest net as MMRazor 0.x did, with layers in any order."""
    units, path = NETS["mobilenet_v2_1.5x.autoslim_220m"]["units"], folder / "autoslim.yaml"
    lines = [f"backbone.{k}:\n  in_channels: 1\n  out_channels: {n}\n" for k, n in units.items()]
    lines[0] += f"  raw_out_channels: {raw}\n"
    path.write_text("".join(sorted(lines)))
    return path


@pytest.mark.slow
def test_widths_of_mmrazor_are_those_of_a_subnet(tmp_path):
    name = "mobilenet_v2_1.5x.autoslim_220m"
    subnet = Subnet.load(widths_file(tmp_path))
    slim = count(channels_of(name).slim(subnet), (224, 224))
    assert (slim.params, slim.macs) == (NETS[name]["params"], NETS[name]["macs"])
    subnet.save(tmp_path / "again.yaml")
    assert Subnet.load(tmp_path / "again.yaml") == subnet


@pytest.mark.slow
def test_widths_of_another_model_are_refused(tmp_path):
    message = r"backbone.conv1.conv is made for 32 channels, and group 'features.0.0' has 48; use"
    with pytest.raises(SubnetError, match=message):
        channels_of("mobilenet_v2_1.5x.autoslim_220m").cut(
            Subnet.load(widths_file(tmp_path, raw=32))
        )


def test_layers_of_mobilenet_v2_have_torchvisions_names():
    names = [*NETS["mobilenet_v2.unpruned"]["units"], "backbone.layer2.0.conv.1.bn", "head.fc"]
    found = torchvision_names(names)
    with torch.device("meta"):
        net = torchvision.models.mobilenet_v2(weights=None)
    layers = {name for name, _ in net.named_modules()}
    assert {name.removeprefix("backbone.") for name in found.values()} <= layers
    assert len(set(found.values())) == len(names)
    assert found["layer1.0.conv.1.conv"] == "features.1.conv.1"
    assert found["layer4.0.conv.2.conv"] == "features.7.conv.2"
    assert found["backbone.layer2.0.conv.1.bn"] == "backbone.features.2.conv.1.1"
    assert (found["conv2.conv"], found["head.fc"]) == ("features.18.0", "classifier.1")
    assert torchvision_names(["conv1.conv", "layer1.0.conv1"]) == {}


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer = (
            nn.Conv2d(3, 8, 1),
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(4, 8, 1),
        )
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, images):
        x = self.stem(images)
        return self.head(x + self.outer(self.inner(x)))


def residual(**kept):
    return Channels(Residual(), (8, 8)).slim(
        Subnet(channels={n: tuple(range(k)) for n, k in kept.items()})
    )


def test_any_layer_that_makes_all_channels_of_a_group_names_it():
    slim = residual(outer=5, inner=2, head=2)
    assert slim.stem.weight.shape == (5, 3, 1, 1)
    assert slim.outer.weight.shape == (5, 2, 1, 1)
    assert slim.head.weight.shape == (2, 5, 1, 1)


def test_layers_of_a_group_must_keep_the_same():
    message = r"outer keeps 6 channels of group 'stem', of which another layer keeps 5"
    with pytest.raises(SubnetError, match=message):
        residual(stem=5, outer=6)
    with pytest.raises(SubnetError, match=r"no channel group 'iner'; did you mean 'inner'"):
        residual(iner=2)
